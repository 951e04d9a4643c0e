// Command sortcheck lets the tests of the auth crate compare their sort with Go's. Each line of input is
// a list of numbers; the answer is the order sort.Sort leaves them in, as their positions in the input.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
	"strings"
)

type item struct{ key, position int }

type byKey []item

func (s byKey) Len() int           { return len(s) }
func (s byKey) Less(i, j int) bool { return s[i].key < s[j].key }
func (s byKey) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		var items byKey
		for position, word := range strings.Fields(in.Text()) {
			key, err := strconv.Atoi(word)
			if err != nil {
				log.Fatal(err)
			}
			items = append(items, item{key, position})
		}
		sort.Sort(items)
		for _, one := range items {
			fmt.Fprintf(out, "%d ", one.position)
		}
		fmt.Fprintln(out)
	}
	if err := in.Err(); err != nil {
		log.Fatal(err)
	}
	if err := out.Flush(); err != nil {
		log.Fatal(err)
	}
}
