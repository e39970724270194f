//! What a process takes: `/proc/<pid>/smaps_rollup`, which has resident and private size of the same moment.

use std::{fs, io};

/// Sizes in kB, as the kernel counts them (1024 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    /// `Private_Clean` and `Private_Dirty`.
    pub(crate) private: u64,
}

/// Reads `smaps_rollup`.
fn parse(rollup: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(Memory { rss: field("Rss:")?, private: field("Private_Clean:")? + field("Private_Dirty:")? })
}

/// What the process takes now.
pub(crate) fn read(pid: u32) -> Result<Memory, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{path}: {error}; run verify as root or as the mesh's user")
        }
        _ => format!("{path}: {error}"),
    })?;
    parse(&rollup).ok_or_else(|| format!("{path} has no Rss and Private fields"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_rollup_is_read() {
        let rollup = "55a8e6c00000-7ffd8b5fe000 ---p 00000000 00:00 0                          [rollup]\n\
            Rss:                2820 kB\nPss:                 911 kB\nPss_Dirty:           612 kB\n\
            Shared_Clean:       2100 kB\nShared_Dirty:          0 kB\nPrivate_Clean:       108 kB\n\
            Private_Dirty:       612 kB\nReferenced:         2820 kB\nAnonymous:           612 kB\n";
        assert_eq!(parse(rollup), Some(Memory { rss: 2820, private: 720 }));
        assert_eq!(parse("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_takes_something() {
        let own = read(std::process::id()).unwrap();
        assert!(own.rss > 100 && own.private > 0 && own.private <= own.rss);
    }
}
