//! Tests that cannot run on this machine.

/// Why a test cannot run here, in words that say what is missing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Skip(pub String);

impl Skip {
    /// A reason to skip.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Reports a skipped test on standard output. With `CI=true` in the environment it panics instead: there every
/// test has to run.
pub fn skipped(reason: &Skip) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI=true, but a test cannot run: {reason}"
    );
    println!("skipped: {reason}");
}

/// Unwraps a `Result<T, Skip>`, or ends the test as skipped (see [`skipped`]).
#[macro_export]
macro_rules! need {
    ($what:expr) => {
        match $what {
            Ok(value) => value,
            Err(reason) => return $crate::skip::skipped(&reason),
        }
    };
}
