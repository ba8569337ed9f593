//! `palisade credential`, as it is typed.

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Credential {
    /// List credentials: what they are and where they are kept, never what they are worth.
    #[command(after_help = "\
Example:
  palisade credential list -o json | jq 'select(.failure != \"\")'")]
    List,
    /// Print what a credential is, which egress rules list it, and when a request carried it last.
    #[command(after_help = "Example:\n  palisade credential show tracker-token")]
    Show {
        #[arg(value_name = "NAME")]
        credential: String,
    },
    /// Revoke a credential: from the next call on no request carries it, also after a restart.
    #[command(after_help = "\
It is recorded first. Revoke it where it was issued, too: who has its value already keeps it.

Example:
  palisade credential revoke tracker-token --endpoint unix:/run/palisade/palisade.sock")]
    Revoke {
        #[arg(value_name = "NAME")]
        credential: String,
    },
    /// Take a revocation back. The value is read again before it is used.
    #[command(after_help = "Example:\n  palisade credential restore tracker-token")]
    Restore {
        #[arg(value_name = "NAME")]
        credential: String,
    },
}
