//! `palisade config`.

use std::io::{Write as _, stdout};

use super::{Failure, arguments::Config};
use crate::config::{self, SAMPLE};

/// Runs a subcommand.
pub fn config(command: Config) -> Result<(), Failure> {
    match command {
        Config::Check { file } => {
            config::load(&file).map_err(|e| Failure::new(Failure::CONFIG, e))?;
            eprintln!("{}: valid", file.display());
        }
        Config::Show { sample: true, .. } => write!(stdout(), "{SAMPLE}")?,
        Config::Show { file, .. } => {
            let config = match file {
                Some(file) => config::load(&file).map_err(|e| Failure::new(Failure::CONFIG, e))?,
                None => config::Config::default(),
            };
            write!(stdout(), "{}", toml::to_string_pretty(&config).map_err(Failure::other)?)?;
        }
    }
    Ok(())
}
