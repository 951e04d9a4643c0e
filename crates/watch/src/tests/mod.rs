//! Tests that drive the dispatcher step by step, without threads.

mod bugs;
mod model;
mod scale;
mod semantics;
mod sim;
