//! `palisade policy`, as it is typed.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Policy {
    /// Print the policies in force.
    Show {
        /// Print the schema that policies are checked against, with the registered tools.
        #[arg(long)]
        schema: bool,
    },
    /// Check policies against the registered tools, without putting them in force.
    #[command(after_help = "\
Prints every problem that it is told; ends with exit code 2 if there is one.

Examples:
  palisade policy check policies/
  palisade policy check desk.cedar --endpoint unix:/run/palisade/palisade.sock")]
    Check {
        /// Files, or directories, of which the *.cedar files are read.
        #[arg(required = true, value_name = "DIR|FILE")]
        paths: Vec<PathBuf>,
    },
    /// Run cases: questions with the answers that are expected. Ends with exit code 5 if one gets another.
    #[command(after_help = "\
The cases are run against the policies in force; with --policies, against those of a directory.

Example:
  palisade policy test cases.toml --policies policies/")]
    Test {
        /// The cases (TOML).
        cases: PathBuf,
    },
    /// Have the daemon read its directory of policies again.
    Reload,
    /// Explain a decision: what was asked, who decided, what was missing, and what would allow it.
    #[command(after_help = "Example:\n  palisade policy explain decisions/0123456789abcdef0123456789abcdef/3")]
    Explain {
        /// As a denial and the journal name it: `decisions/<step>/<call>`.
        decision: String,
    },
}
