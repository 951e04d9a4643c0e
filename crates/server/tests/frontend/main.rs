//! Services and endpoints over real sockets, in front of a fake member.

mod calls;
mod endpoints;
mod fake;
mod raw;
mod streams;
mod watching;
