/// Why a member did not start, in the form operators of etcd know: what is logged and how the process
/// ends (docs/operations.md, exit codes).
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Most failures: logged as fatal with the message `discovery failed`, exit code 1.
    #[error("{0}")]
    Failed(String),
    /// A fatal message of its own, exit code 1.
    #[error("{message}: {error}")]
    Fatal {
        /// The log line's message.
        message: &'static str,
        /// The log line's `error` field.
        error: String,
    },
    /// What etcd panics on: exit code 2.
    #[error("{message}: {error}")]
    Panic {
        /// The log line's message.
        message: String,
        /// The log line's `error` field.
        error: String,
    },
}

impl StartError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Failed(_) | Self::Fatal { .. } => 1,
            Self::Panic { .. } => 2,
        }
    }

    /// The message of the log line that ends the process.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed(_) => "discovery failed",
            Self::Fatal { message, .. } => message,
            Self::Panic { message, .. } => message,
        }
    }

    /// The `error` field of that line.
    pub fn cause(&self) -> &str {
        match self {
            Self::Failed(error) | Self::Fatal { error, .. } | Self::Panic { error, .. } => error,
        }
    }
}
