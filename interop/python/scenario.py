"""What services do with python-etcd3, against the server named on the command line. Prints "ok" at the end."""

import sys
import threading

import etcd3

host, port = sys.argv[1].rsplit(":", 1)
client = etcd3.client(host=host, port=int(port), timeout=20)


def check(condition, text):
    if not condition:
        raise SystemExit("failed: " + text)


def keys_and_ranges():
    check(client.get("py/none") == (None, None), "a missing key is None")
    client.put("py/a", "1")
    value, meta = client.get("py/a")
    check(value == b"1", "get after put")
    check(meta.version == 1 and meta.create_revision == meta.mod_revision, "metadata of a new key")
    old = client.put("py/a", "2", prev_kv=True)
    check(old.prev_kv.value == b"1", "the previous value")
    for number in range(5):
        client.put("py/p/%d" % number, str(number))
    found = [value for value, _ in client.get_prefix("py/p/")]
    check(found == [b"0", b"1", b"2", b"3", b"4"], "prefix in key order: %r" % found)
    found = [meta.key for _, meta in client.get_prefix("py/p/", sort_order="descend", sort_target="key")]
    check(found[0] == b"py/p/4", "descending")
    found = [value for value, _ in client.get_range("py/p/1", "py/p/3")]
    check(found == [b"1", b"2"], "range")
    check(len(list(client.get_all())) >= 6, "everything")
    check(client.delete("py/a") is True, "delete")
    check(client.delete("py/a") is False, "delete again")
    check(client.delete_prefix("py/p/").deleted == 5, "delete by prefix")


def transactions():
    client.put("py/t", "x")
    succeeded, responses = client.transaction(
        compare=[
            client.transactions.value("py/t") == "x",
            client.transactions.version("py/t") > 0,
            client.transactions.create("py/t") > 0,
            client.transactions.mod("py/t") > 0,
        ],
        success=[client.transactions.put("py/t", "y"), client.transactions.get("py/t")],
        failure=[client.transactions.delete("py/t")],
    )
    check(succeeded and responses[1][0][0] == b"y", "a transaction sees its own write")
    succeeded, _ = client.transaction(
        compare=[client.transactions.value("py/t") == "x"],
        success=[],
        failure=[client.transactions.delete("py/t")],
    )
    check(not succeeded and client.get("py/t")[0] is None, "the other branch")
    check(client.put_if_not_exists("py/once", "1"), "first")
    check(not client.put_if_not_exists("py/once", "2"), "second")
    check(client.replace("py/once", "1", "3"), "compare and swap")
    check(not client.replace("py/once", "1", "4"), "compare and swap of an old value")


def leases():
    lease = client.lease(60)
    client.put("py/l", "v", lease=lease)
    check(client.get("py/l")[1].lease_id == lease.id, "the lease of a key")
    check(lease.granted_ttl == 60, "granted")
    check(58 <= lease.remaining_ttl <= 60, "remaining")
    check(lease.keys == [b"py/l"], "keys of the lease")
    check(lease.refresh()[0].TTL == 60, "keep-alive")
    lease.revoke()
    check(client.get("py/l")[0] is None, "revoked")


def watches():
    seen, done = [], threading.Event()

    def on_event(response):
        for event in response.events:
            seen.append((type(event).__name__, event.key, event.value))
        if len(seen) >= 4:
            done.set()

    watch = client.add_watch_prefix_callback("py/w/", on_event)
    client.put("py/w/1", "a")
    client.put("py/w/1", "b")
    client.put("py/w/2", "c")
    client.delete("py/w/1")
    check(done.wait(10), "four events: %r" % seen)
    check(
        seen
        == [
            ("PutEvent", b"py/w/1", b"a"),
            ("PutEvent", b"py/w/1", b"b"),
            ("PutEvent", b"py/w/2", b"c"),
            ("DeleteEvent", b"py/w/1", b""),
        ],
        "events in order: %r" % seen,
    )
    client.cancel_watch(watch)
    revision = client.get("py/w/2")[1].mod_revision
    events, cancel = client.watch("py/w/2", start_revision=revision)
    check(next(events).value == b"c", "an event of the past")
    cancel()
    client.put("py/c", "1")
    first = client.get("py/c")[1].mod_revision
    client.put("py/c", "2")
    client.compact(first + 1)
    try:
        events, cancel = client.watch("py/c", start_revision=first)
        next(events)
        check(False, "a watch of the compacted past fails")
    except etcd3.exceptions.RevisionCompactedError as error:
        check(error.compacted_revision == first + 1, "it says where history begins")


def locks():
    lock = client.lock("py/lock", ttl=20)
    check(lock.acquire(timeout=5), "a free lock")
    check(lock.is_acquired(), "held")
    other = client.lock("py/lock", ttl=20)
    check(not other.acquire(timeout=1), "held by another")
    lock.release()
    check(other.acquire(timeout=5), "free again")
    other.release()


def cluster():
    check(len(list(client.members)) == 1, "one member")
    status = client.status()
    check(status.version.startswith("3."), "a version")
    check(status.leader is not None and status.db_size > 0, "status")
    check(list(client.list_alarms()) == [], "no alarm")
    client.defragment()
    check(isinstance(client.hash(), int), "hash")
    with open(sys.argv[2], "wb") as file:
        client.snapshot(file)


for part in (keys_and_ranges, transactions, leases, watches, locks, cluster):
    part()
    print(part.__name__, flush=True)
print("ok", flush=True)
