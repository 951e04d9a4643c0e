# Everything a person runs before a change is offered.
verify: ci deny

# What CI runs: tests, formatting, lints, documentation.
ci:
    bash .ci/run

# Licences, advisories and bans of the dependency tree (installs cargo-deny when missing).
deny:
    command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
    cargo deny check

# Side-by-side measurement with real etcd; see docs/PERFORMANCE.md.
bench *args:
    cargo build --release -p etcd -p bench
    cargo run --release -p bench -- {{args}}

# The long modes of the tests (hours).
long:
    STELE_LONG=1 cargo test --workspace
