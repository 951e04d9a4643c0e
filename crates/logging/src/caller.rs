use std::panic::Location;

/// Where a line was logged: source file and line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Caller {
    pub(crate) file: &'static str,
    pub(crate) line: u32,
}

impl Caller {
    #[track_caller]
    pub(crate) fn here() -> Self {
        Location::caller().into()
    }

    /// `dir/file.rs:line`; the directory is the module's, or the crate's for files in `src`.
    pub(crate) fn push(self, out: &mut String) {
        let mut parts = self.file.rsplit('/').filter(|part| *part != "src");
        let file = parts.next().unwrap_or_default();
        if let Some(dir) = parts.next() {
            out.push_str(dir);
            out.push('/');
        }
        out.push_str(file);
        out.push(':');
        out.push_str(&self.line.to_string());
    }

    /// The directory part of what [`Caller::push`] writes.
    pub(crate) fn package(self) -> &'static str {
        self.file
            .rsplit('/')
            .filter(|part| *part != "src")
            .nth(1)
            .unwrap_or_default()
    }
}

impl From<&'static Location<'static>> for Caller {
    fn from(location: &'static Location<'static>) -> Self {
        Self {
            file: location.file(),
            line: location.line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_to_directory_and_file() {
        for (file, want) in [
            ("crates/cluster/src/member.rs", "cluster/member.rs:7"),
            ("crates/server/src/http/health.rs", "http/health.rs:7"),
            ("main.rs", "main.rs:7"),
            ("", ":7"),
        ] {
            let mut out = String::new();
            Caller { file, line: 7 }.push(&mut out);
            assert_eq!(out, want);
        }
        let caller = Caller {
            file: "crates/cluster/src/member.rs",
            line: 1,
        };
        assert_eq!(caller.package(), "cluster");
    }
}
