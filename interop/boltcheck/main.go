// Command boltcheck lets the tests of the bbolt crate work on files with Go's bbolt: write random
// content, check a file, and print a file's content in a form that can be compared.
package main

import (
	"bufio"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

const usage = `usage: boltcheck [flags] COMMAND FILE [ARGS]

  write FILE SEED N   N random changes in several transactions, nested buckets included
  append FILE SEED N  N ascending keys in batches, as etcd writes revisions
  etcd FILE SEED N    a file like etcd's: ten buckets, revisions, deletes of old ones
  check FILE          bbolt's consistency check; exit code 1 if it finds something
  dump FILE           the content, one line per element
  bench FILE N        time N ascending puts of 256 bytes in batches of 5000`

var (
	pageSize     = flag.Int("page-size", 0, "page size of a new file")
	freelistSync = flag.Bool("freelist-sync", false, "persist the freelist")
	freelistType = flag.String("freelist-type", "hashmap", "array or hashmap")
	noSync       = flag.Bool("no-sync", false, "leave out syncs")
)

func main() {
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "boltcheck:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%s", usage)
	}
	number := func(i int) (int64, error) {
		if len(args) <= i {
			return 0, fmt.Errorf("%s", usage)
		}
		return strconv.ParseInt(args[i], 10, 64)
	}
	command, path := args[0], args[1]
	switch command {
	case "check", "dump":
		db, err := open(path, command == "dump")
		if err != nil {
			return err
		}
		defer db.Close()
		if command == "check" {
			return check(db)
		}
		return dump(db, os.Stdout)
	case "bench":
		n, err := number(2)
		if err != nil {
			return err
		}
		return bench(path, int(n))
	}
	seed, err := number(2)
	if err != nil {
		return err
	}
	n, err := number(3)
	if err != nil {
		return err
	}
	writers := map[string]func(*bolt.DB, *rand.Rand, int) error{
		"write": writeRandom, "append": writeAscending, "etcd": writeLikeEtcd,
	}
	write, ok := writers[command]
	if !ok {
		return fmt.Errorf("%s", usage)
	}
	db, err := open(path, false)
	if err != nil {
		return err
	}
	defer db.Close()
	return write(db, rand.New(rand.NewSource(seed)), int(n))
}

func open(path string, readOnly bool) (*bolt.DB, error) {
	return bolt.Open(path, 0o600, &bolt.Options{
		Timeout:        5 * time.Second,
		ReadOnly:       readOnly,
		PageSize:       *pageSize,
		NoFreelistSync: !*freelistSync,
		FreelistType:   bolt.FreelistType(*freelistType),
		NoSync:         *noSync,
	})
}

func check(db *bolt.DB) error {
	return db.View(func(tx *bolt.Tx) error {
		found := 0
		for err := range tx.Check() {
			fmt.Println(err)
			found++
		}
		if found > 0 {
			return fmt.Errorf("%d errors", found)
		}
		return nil
	})
}

func dump(db *bolt.DB, to io.Writer) error {
	out := bufio.NewWriter(to)
	defer out.Flush()
	return db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return dumpBucket(out, hex.EncodeToString(name), b)
		})
	})
}

func dumpBucket(out io.Writer, path string, b *bolt.Bucket) error {
	fmt.Fprintf(out, "bucket %s %d\n", path, b.Sequence())
	return b.ForEach(func(key, value []byte) error {
		if value == nil {
			return dumpBucket(out, path+"/"+hex.EncodeToString(key), b.Bucket(key))
		}
		sum := fnv.New64a()
		sum.Write(value)
		_, err := fmt.Fprintf(out, "value %s %x %d %016x\n", path, key, len(value), sum.Sum64())
		return err
	})
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

func randomKey(r *rand.Rand) []byte {
	switch r.Intn(8) {
	case 0:
		return randomBytes(r, 1+r.Intn(400))
	case 1, 2:
		return randomBytes(r, 1+r.Intn(3))
	default:
		return []byte(fmt.Sprintf("key%06d", r.Intn(3000)))
	}
}

func randomValue(r *rand.Rand) []byte {
	switch r.Intn(40) {
	case 0:
		return randomBytes(r, 5000+r.Intn(60000))
	case 1, 2, 3:
		return randomBytes(r, 1000+r.Intn(4000))
	default:
		return randomBytes(r, r.Intn(120))
	}
}

// randomBucket walks down from the root, creating what is missing.
func randomBucket(tx *bolt.Tx, r *rand.Rand) (*bolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists([]byte(fmt.Sprintf("bucket%d", r.Intn(4))))
	for err == nil && r.Intn(4) == 0 {
		b, err = b.CreateBucketIfNotExists([]byte(fmt.Sprintf("nested%d", r.Intn(3))))
	}
	return b, err
}

func isBucket(b *bolt.Bucket, key []byte) bool { return b.Bucket(key) != nil }

func randomChange(tx *bolt.Tx, r *rand.Rand) error {
	b, err := randomBucket(tx, r)
	if err != nil {
		return err
	}
	switch r.Intn(20) {
	case 0:
		return b.SetSequence(r.Uint64() >> 1)
	case 1:
		// A range of deletes, so that pages are merged.
		c := b.Cursor()
		key, value := c.Seek(randomKey(r))
		for i := r.Intn(200); i > 0 && key != nil; i-- {
			if value != nil {
				if err := c.Delete(); err != nil {
					return err
				}
			}
			key, value = c.Next()
		}
		return nil
	case 2:
		if r.Intn(10) == 0 {
			name := []byte(fmt.Sprintf("nested%d", r.Intn(3)))
			if isBucket(b, name) {
				return b.DeleteBucket(name)
			}
		}
		return nil
	case 3, 4, 5:
		key := randomKey(r)
		if isBucket(b, key) {
			return nil
		}
		return b.Delete(key)
	default:
		key := randomKey(r)
		if isBucket(b, key) {
			return nil
		}
		return b.Put(key, randomValue(r))
	}
}

func writeRandom(db *bolt.DB, r *rand.Rand, n int) error {
	for n > 0 {
		batch := 1 + r.Intn(150)
		err := db.Update(func(tx *bolt.Tx) error {
			for ; batch > 0 && n > 0; batch, n = batch-1, n-1 {
				if err := randomChange(tx, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func revision(main uint64) []byte {
	key := make([]byte, 17)
	for i := range 8 {
		key[i] = byte(main >> (56 - 8*i))
	}
	key[8] = '_'
	return key
}

func writeAscending(db *bolt.DB, r *rand.Rand, n int) error {
	next := uint64(1)
	for n > 0 {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("key"))
			if err != nil {
				return err
			}
			if last, _ := b.Cursor().Last(); last != nil {
				next = 0
				for _, c := range last[:8] {
					next = next<<8 | uint64(c)
				}
				next++
			}
			b.FillPercent = 0.9
			for i := 0; i < 500 && n > 0; i, n, next = i+1, n-1, next+1 {
				if err := b.Put(revision(next), randomBytes(r, 30+r.Intn(300))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var etcdBuckets = []string{
	"meta", "members", "members_removed", "cluster", "lease", "key", "auth", "authUsers", "authRoles", "alarm",
}

func writeLikeEtcd(db *bolt.DB, r *rand.Rand, n int) error {
	for _, name := range etcdBuckets {
		err := db.Update(func(tx *bolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists([]byte(name))
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := writeAscending(db, r, n); err != nil {
		return err
	}
	return db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		c := b.Cursor()
		for key, _ := c.First(); key != nil; key, _ = c.Next() {
			if r.Intn(3) != 0 {
				if err := b.Delete(append([]byte(nil), key...)); err != nil {
					return err
				}
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("consistent_index"), randomBytes(r, 8))
	})
}

func bench(path string, n int) error {
	db, err := open(path, false)
	if err != nil {
		return err
	}
	defer db.Close()
	value := make([]byte, 256)
	start := time.Now()
	for next := 0; next < n; {
		err := db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("key"))
			if err != nil {
				return err
			}
			b.FillPercent = 0.9
			for i := 0; i < 5000 && next < n; i, next = i+1, next+1 {
				if err := b.Put(revision(uint64(next)), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	fmt.Printf("%d ns/put\n", time.Since(start).Nanoseconds()/int64(n))
	return nil
}
