#!/usr/bin/env bash
# Builds the real etcd programs that tests and measurements run against.
#
#   interop/build.sh              all of them
#   interop/build.sh 3.7 3.6      some: 3.7, 3.6, 3.5, benchmark
#
# The result is interop/bin/<release>/{etcd,etcdctl,etcdutl} and interop/bin/benchmark. Where the stamp beside
# the programs still equals the hash of the pins, nothing is done. Any number of callers may run at once: a
# lock file per release serialises them, and programs appear by rename only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v go >/dev/null 2>&1 && [ -x /usr/local/go/bin/go ]; then
  PATH="$PATH:/usr/local/go/bin"
fi

# The hash of everything a result depends on.
pins() {
  cat "$1/go.mod" "$1/go.sum" build.sh | sha256sum | cut -d' ' -f1
}

# compile <module dir> <target dir> <name=package>...
compile() {
  local module=$1 target=$2
  shift 2
  mkdir -p "$target"
  exec 9>"$target/.lock"
  flock 9
  local want
  want=$(pins "$module")
  if [ "$(cat "$target/.stamp" 2>/dev/null)" = "$want" ]; then
    return 0
  fi
  command -v go >/dev/null 2>&1 || { echo "interop: no Go toolchain (go) on the PATH" >&2; exit 3; }
  echo "interop: building $target" >&2
  local one name package
  for one in "$@"; do
    name=${one%%=*}
    package=${one#*=}
    (cd "$module" && CGO_ENABLED=0 go build -trimpath -mod=readonly -o "../$target/.$name.new" "$package")
    mv -f "$target/.$name.new" "$target/$name"
  done
  echo "$want" >"$target/.stamp"
  exec 9>&-
}

release() {
  compile "$1" "bin/$2" \
    etcd=go.etcd.io/etcd/server/v3 \
    etcdctl=go.etcd.io/etcd/etcdctl/v3 \
    etcdutl=go.etcd.io/etcd/etcdutl/v3
}

[ $# -gt 0 ] || set -- 3.7 3.6 3.5 benchmark
for what in "$@"; do
  case $what in
    3.7) release v37 3.7.3 ;;
    3.6) release v36 3.6.16 ;;
    3.5) release v35 3.5.35 ;;
    benchmark) compile benchmark bin benchmark=go.etcd.io/etcd/v3/tools/benchmark ;;
    *)
      echo "interop: unknown program set: $what (3.7, 3.6, 3.5, benchmark)" >&2
      exit 2
      ;;
  esac
done
