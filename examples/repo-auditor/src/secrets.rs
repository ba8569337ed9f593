//! Finds what looks like a secret in a line of text. The secret itself never leaves this module.

use serde::Serialize;

/// So much of a secret is shown, for a person to recognise it.
const SHOWN_CHARS: usize = 4;

/// A shorter password can be guessed anyway, and short strings are seldom passwords.
const ASSIGNED_MIN_CHARS: usize = 12;

const GITHUB_PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
const GITHUB_MIN_CHARS: usize = 36;

const SLACK_PREFIXES: [&str; 3] = ["xoxa-", "xoxb-", "xoxp-"];
const SLACK_MIN_CHARS: usize = 10;

/// What a variable that holds a secret has in its name.
const SECRET_NAMES: [&str; 7] = ["password", "passwd", "secret", "token", "api_key", "api-key", "apikey"];

/// A possible secret in a file.
#[derive(Serialize)]
pub struct Secret {
    pub path: String,
    pub line: u64,
    pub kind: &'static str,
    pub redacted: String,
}

/// Finds the possible secret in a string.
type Matcher = fn(&str) -> Option<&str>;

/// The most specific first: a GitHub token that is assigned to `token` is a GitHub token.
const MATCHERS: [(&str, Matcher); 5] = [
    ("AWS access key id", aws_access_key_id),
    ("private key", private_key),
    ("GitHub token", github_token),
    ("Slack token", slack_token),
    ("assigned secret", assigned_secret),
];

/// Returns the kind of the possible secret in a line, and the secret with all but its start removed.
pub fn find(line: &str) -> Option<(&'static str, String)> {
    MATCHERS.into_iter().find_map(|(kind, matcher)| Some((kind, redact(matcher(line)?))))
}

fn redact(secret: &str) -> String {
    secret.chars().take(SHOWN_CHARS).chain(['…']).collect()
}

fn aws_access_key_id(line: &str) -> Option<&str> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| {
        word.len() == 20
            && word.starts_with("AKIA")
            && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    })
}

/// The key itself is on the lines below: the header tells that it is there.
fn private_key(line: &str) -> Option<&str> {
    line.split("-----BEGIN ").skip(1).find(|header| {
        let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
        header.split_once("PRIVATE KEY-----").is_some_and(|(algorithm, _)| is_name(algorithm))
    })
}

fn github_token(line: &str) -> Option<&str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).find(|word| {
        let rest = GITHUB_PREFIXES.into_iter().find_map(|prefix| word.strip_prefix(prefix));
        rest.is_some_and(|rest| rest.len() >= GITHUB_MIN_CHARS)
    })
}

fn slack_token(line: &str) -> Option<&str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).find(|word| {
        let rest = SLACK_PREFIXES.into_iter().find_map(|prefix| word.strip_prefix(prefix));
        rest.is_some_and(|rest| rest.len() >= SLACK_MIN_CHARS && rest.bytes().any(|b| b.is_ascii_digit()))
    })
}

/// Matches `password = "…"`, `"api_key": "…"`, `let token: &str = '…'` and the like.
fn assigned_secret(line: &str) -> Option<&str> {
    line.match_indices(['"', '\'']).find_map(|(at, quote)| {
        if !ends_with_assignment(&line[..at]) {
            return None;
        }
        let (value, _) = line[at + 1..].split_once(quote)?;
        looks_secret(value).then_some(value)
    })
}

/// Returns whether `before` assigns to something whose name says that it is secret.
fn ends_with_assignment(before: &str) -> bool {
    let target = before.trim_end_matches([' ', '\t', '=', ':', '>']);
    if !before[target.len()..].contains(['=', ':']) {
        return false;
    }
    let target = target.trim_end_matches(['"', '\'', ']']);
    // Between the name and the value there may be a type.
    let typed = target.trim_end_matches(|c: char| c.is_alphanumeric() || " &'_<>".contains(c)).strip_suffix(':');
    ends_with_secret_name(target) || typed.is_some_and(ends_with_secret_name)
}

fn ends_with_secret_name(target: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let name = target[target.trim_end_matches(is_name).len()..].to_ascii_lowercase();
    SECRET_NAMES.into_iter().any(|secret| name.contains(secret))
}

/// Letters and digits mixed are seldom a word, a file name or a header; a space or a brace makes a text or a template.
fn looks_secret(value: &str) -> bool {
    value.chars().count() >= ASSIGNED_MIN_CHARS
        && value.contains(char::is_alphabetic)
        && value.contains(|c: char| c.is_ascii_digit())
        && !value.contains([' ', '{', '<'])
}
