//! `palisade kill`, `freeze`, `cordon`, `drain` and `hold`, as they are typed.

use clap::{Args, Subcommand};

use super::scaled;

/// What is held, why and for how long.
#[derive(Args)]
pub struct Order {
    /// `node`, `tenants/T`, `callers/unix:UID`, `agents/NAME[@VERSION]`, `jobs/NAME`, `steps/ID`, `components/DIGEST`,
    /// `tools/NAME[@VERSION]`, `credentials/NAME`, `rules/NAME`, `hosts/HOST` or `hosts/*.NAME`. An agent or a job of one
    /// tenant has `tenants/T/` before it.
    pub scope: String,
    /// Why. It stands in the journal and in every refusal.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How long: a number with s, m, h or d. Without it, until it is lifted.
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub duration: Option<i64>,
    /// The same of the same caller once more is the same hold, and stops whatever is left: for whoever got no answer. The
    /// command says which one it made up.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

#[derive(Args)]
pub struct Drain {
    #[command(flatten)]
    pub order: Order,
    /// How long what runs may go on before it is stopped: a number with s, m or h, at most one hour [default: 1m].
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub grace: Option<i64>,
}

#[derive(Subcommand)]
pub enum Hold {
    /// List what is held, the oldest first.
    #[command(after_help = "Example:\n  palisade hold list -o json | jq 'select(.by | startswith(\"containment/\"))'")]
    List,
    /// Print one hold.
    #[command(after_help = "Example:\n  palisade hold show holds/0123456789abcdef0123456789abcdef")]
    Show {
        #[arg(value_name = "HOLD")]
        hold: String,
    },
    /// Lift a hold. What it made wait goes on; what it stopped is not started again.
    #[command(
        after_help = "Example:\n  palisade hold lift holds/0123456789abcdef0123456789abcdef --reason 'the version is mended'"
    )]
    Lift {
        #[arg(value_name = "HOLD")]
        hold: String,
        /// Why. It stands in the journal.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

fn seconds(text: &str) -> Result<i64, String> {
    scaled(text, &[("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)], 1, "seconds, or a number with s, m, h or d")
}
