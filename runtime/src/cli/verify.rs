//! `palisade audit verify`: an export and a public key, and nothing else.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write as _, stdin, stdout},
    path::Path,
    process::ExitCode,
};

use serde_json::json;

use super::{Common, Failure, arguments::Output, print};
use crate::journal::{BadExport, Checkpoint, PublicKey, Verified, verify as verify_export};

/// Bytes of the largest checkpoint or key that is read.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// Verifies an export, and says what that proves. Fails at the first bad record.
pub fn verify(file: &Path, key: &str, held: Option<&Path>, common: &Common) -> Result<ExitCode, Failure> {
    let key = self::key(key)?;
    let held = held.map(read).transpose()?;
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|e| unreadable(file, &e))?))
    };
    match verify_export(input, &key, held.as_deref()) {
        Ok(verified) => {
            let held = held.and_then(|held| Checkpoint::open(&held, &key).ok());
            match common.output {
                Output::Json => writeln!(stdout(), "{}", to_json(&verified))?,
                Output::Table => say(&verified, &key, held.as_ref(), common)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(BadExport { line, sequence, problem }) if common.output == Output::Json => {
            let json = json!({ "verified": false, "line": line, "sequence": sequence, "problem": problem });
            writeln!(stdout(), "{json}")?;
            Ok(ExitCode::from(Failure::STEP))
        }
        Err(bad) => Err(Failure::new(Failure::STEP, format!("not verified: {bad}"))),
    }
}

/// Reads a public key, or the file that has it.
pub fn key(given: &str) -> Result<PublicKey, Failure> {
    let text = if Path::new(given).is_file() { read(Path::new(given))? } else { given.to_owned() };
    text.parse().map_err(|e| Failure::usage(format!("`--key`: {e}, or a file that has it")))
}

fn say(verified: &Verified, key: &PublicKey, held: Option<&Checkpoint>, common: &Common) -> Result<(), Failure> {
    let Verified { from, to, records, payloads, absent, anchored: _ } = *verified;
    let mut stdout = stdout();
    match records {
        0 => writeln!(stdout, "verified: {} has no record from {from} on", key.name())?,
        _ => writeln!(stdout, "verified: records {from} to {to} of {}", key.name())?,
    }
    writeln!(stdout, "  each record is canonical, has the next number, and names the hash of the one before")?;
    match (payloads, absent) {
        (0, 0) => writeln!(stdout, "  payloads are not in it")?,
        (there, 0) => writeln!(stdout, "  {there} payloads are there and are what their records name")?,
        (there, absent) => writeln!(
            stdout,
            "  {there} payloads are there and are what their records name, and {absent} are said to be deleted"
        )?,
    }
    writeln!(stdout, "  the checkpoint at the end is signed by the key, and is of exactly these records")?;
    if let Some(held) = held {
        writeln!(stdout, "  the first {} records are those that the checkpoint which you held commits to", held.size)?;
    }
    if common.quiet {
        return Ok(());
    }
    eprintln!("not proved:");
    match held {
        Some(_) => eprintln!("  that the journal had no records after {to} when it was exported"),
        None => eprintln!("  that nothing was cut off at the end: give a checkpoint that you held, with --checkpoint"),
    }
    if from > 1 {
        eprintln!("  what the records before {from} say: they are not in it");
    }
    eprintln!("  that the host told the truth before it signed");
    Ok(())
}

fn to_json(verified: &Verified) -> serde_json::Value {
    let Verified { from, to, records, payloads, absent, anchored } = *verified;
    json!({
        "verified": true, "from": from, "to": to, "records": records, "payloads": payloads, "absent": absent,
        "anchored": anchored,
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    let bytes = fs::metadata(file).map_err(|e| unreadable(file, &e))?.len();
    if bytes > NOTE_BYTES_MAX {
        return Err(Failure::usage(format!("`{}` is too large for a key or a checkpoint", file.display())));
    }
    fs::read_to_string(file).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Failure::NOT_FOUND, format!("cannot read `{}`: {error}", print::one_line(&file.to_string_lossy())))
}
