use crate::Kind;

/// One option of the server: everything that is known about it. Help, command line, environment
/// and configuration file are all made from these.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Name on the command line, without dashes. The environment variable is `ETCD_` and the name
    /// in upper case with underscores.
    pub name: &'static str,
    /// Where the help lists it.
    pub section: Section,
    /// Which values it takes.
    pub kind: Kind,
    /// The default, written as on the command line.
    pub default: &'static str,
    /// How a configuration file names it.
    pub file: FileKey,
    /// What it does: one or more lines for the help.
    pub help: &'static str,
    /// What is logged when somebody sets it.
    pub deprecated: Option<&'static str>,
}

/// The parts of the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// About this member alone.
    Member,
    /// About how members find each other.
    Clustering,
    /// Certificates, TLS, origins.
    Security,
    /// Users and tokens.
    Auth,
    /// Profiles and metrics.
    Monitoring,
    /// Log lines.
    Logging,
    /// Traces.
    Tracing,
    /// Everything that came later.
    Features,
    /// What can lose data.
    Unsafe,
    /// Not an option of the server itself (`--config-file`, `--version`), or accepted and ignored.
    Hidden,
    /// Has no flag, only a key in the configuration file.
    FileOnly,
}

/// The key of an option in a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKey {
    /// The name of the flag.
    Same,
    /// This key in `client-transport-security`.
    Client(&'static str),
    /// This key in `peer-transport-security`.
    Peer(&'static str),
    /// A path of keys.
    Path(&'static [&'static str]),
    /// A file cannot set it.
    None,
}

impl Flag {
    pub(crate) const fn new(
        section: Section,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            section,
            kind,
            default,
            file: FileKey::Same,
            help,
            deprecated: None,
        }
    }

    pub(crate) const fn in_file(mut self, file: FileKey) -> Self {
        self.file = file;
        self
    }

    pub(crate) const fn deprecated(mut self, warning: &'static str) -> Self {
        self.deprecated = Some(warning);
        self
    }

    /// Name of the environment variable.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// Whether `--flag` may stand alone on the command line.
    pub(crate) fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Ignored)
    }

    /// The keys to go down in a configuration file; `None` when a file cannot set the option.
    pub(crate) fn file_path(&self) -> Option<Vec<&'static str>> {
        match self.file {
            FileKey::Same => Some(vec![self.name]),
            FileKey::Client(key) => Some(vec!["client-transport-security", key]),
            FileKey::Peer(key) => Some(vec!["peer-transport-security", key]),
            FileKey::Path(path) => Some(path.to_vec()),
            FileKey::None => None,
        }
    }
}
