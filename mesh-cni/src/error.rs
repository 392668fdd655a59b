//! What can go wrong while rules are set, and what to do about it. Each kind has its own exit code, so that whoever
//! starts the program (kubelet, CNI plugin, sandbox) can tell them apart.

use std::io;
use std::process::ExitCode;

/// Bytes of a program's complaint that are shown.
const COMPLAINT_BYTES_MAX: usize = 2000;

/// Why the rules are not in place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// EPERM in one of its many words.
    #[error(
        "not permitted to change the rules of this network namespace ({program}: {complaint}). Run as root with the capabilities NET_ADMIN and NET_RAW; in a pod, the namespace's Pod Security level must allow them to the container mesh-init"
    )]
    NotPermitted { program: String, complaint: String },
    /// None of the program's names was found.
    #[error(
        "no program {programs} was found in PATH. Install Debian's package `iptables`, or use the image mesh-cni, which contains it"
    )]
    ProgramMissing { programs: String },
    /// The kernel lacks a table, a match or a target.
    #[error(
        "the kernel cannot do what the rules need ({program}: {complaint}). The modules nf_nat, nf_conntrack, xt_owner, xt_REDIRECT (and for --backend legacy iptable_nat) must be loaded on the node, or built in{hint}"
    )]
    Kernel { program: String, complaint: String, hint: &'static str },
    /// A program failed in another way.
    #[error("{program} failed: {complaint}")]
    ProgramFailed { program: String, complaint: String },
    /// A program did not end.
    #[error("{program} did not end within {seconds} s; something may hold the lock /run/xtables.lock")]
    ProgramHangs { program: String, seconds: u64 },
    /// The rules that are there after writing are not those written.
    #[error(
        "the rules of {family} are not as written, though the program reported success: {differences}. Something else changes the rules of this network namespace at the same time"
    )]
    NotAsWritten { family: &'static str, differences: String },
    /// The inbound proxy's IPv6 source address could not be set.
    #[error(
        "the address ::6 could not be added to lo: {source}. IPv6 is enabled in this network namespace, and the proxy needs this address to reach the application; the capability NET_ADMIN is needed"
    )]
    Loopback {
        #[source]
        source: io::Error,
    },
    /// A file or a pipe.
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The exit code; `--help` lists them.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Error::NotPermitted { .. } => 3,
            Error::ProgramMissing { .. } => 4,
            Error::Kernel { .. } => 5,
            Error::NotAsWritten { .. } => 6,
            Error::Loopback { source } if source.kind() == io::ErrorKind::PermissionDenied => 3,
            Error::Loopback { .. } | Error::ProgramFailed { .. } | Error::ProgramHangs { .. } | Error::Io { .. } => 1,
        })
    }

    /// Understands what a program said before it failed. The texts are those of iptables 1.8, both backends.
    pub(crate) fn of_program(program: &str, stderr: &str) -> Error {
        let (program, complaint) = (program.to_owned(), excerpt(stderr));
        let says = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
        if says(&["Permission denied", "Operation not permitted", "you must be root"]) {
            return Error::NotPermitted { program, complaint };
        }
        let lacks_owner = says(&["unknown option \"--uid-owner\"", "Extension owner", "match \"owner\""]);
        let lacks_other = says(&[
            "No chain/target/match by that name",
            "Table does not exist",
            "table does not exist",
            "can't initialize ip",
            "missing kernel module",
            "not supported",
            "Could not fetch rule set generation id",
            "Couldn't load target",
            "Couldn't load match",
        ]);
        if lacks_owner || lacks_other {
            let hint = if lacks_owner { "; missing is the match `owner` (xt_owner)" } else { "" };
            return Error::Kernel { program, complaint, hint };
        }
        Error::ProgramFailed { program, complaint }
    }
}

/// One line of what a program said.
fn excerpt(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut text: String = lines.join("; ").chars().filter(|c| !c.is_control()).collect();
    if text.len() > COMPLAINT_BYTES_MAX {
        let mut end = COMPLAINT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    if text.is_empty() { "no message".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_becomes_something_to_do() {
        let of = |stderr| Error::of_program("iptables-nft-restore", stderr);
        let denied = "Could not fetch rule set generation id: Permission denied (you must be root)";
        assert!(matches!(of(denied), Error::NotPermitted { .. }));
        let owner = "Warning: Extension owner revision 0 not supported, missing kernel module?\niptables-restore: line 9 failed";
        let Error::Kernel { hint, .. } = of(owner) else { panic!("a matter of the kernel") };
        assert!(hint.contains("xt_owner"));
        assert!(matches!(of("iptables-restore: No chain/target/match by that name."), Error::Kernel { hint: "", .. }));
        let table = "iptables-legacy-restore: unable to initialize table 'nat'\ncan't initialize iptables table `nat': Table does not exist (do you need to insmod?)";
        assert!(matches!(of(table), Error::Kernel { .. }));
        let Error::ProgramFailed { complaint, .. } = of("line 3: \u{1b}[31mbroken\n\n  twice ") else {
            panic!("other")
        };
        assert_eq!(complaint, "line 3: [31mbroken; twice");
        let long = "é".repeat(5000);
        assert!(of(&long).to_string().len() < 2100);
    }
}
