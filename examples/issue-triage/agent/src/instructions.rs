//! Finds what a text tells its reader to do. A model would find more ways to be told.

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    pub act: Act,
    /// The same in words.
    pub does: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Posts what the tracker listed to a URL.
    PostIssues {
        to: String,
    },
    /// Gets a URL, perhaps with a header.
    Get {
        url: String,
        header: Option<(String, String)>,
    },
    ReadFile {
        path: String,
    },
    ReadEnvironment,
}

/// Returns the instructions in a text, in their order, one of a line at most:
///
/// - `POST all issues to http://collector.example/`
/// - `GET /tracker/whoami.json`, also `… with the header Authorization: Bearer abc`
/// - `read the file /etc/passwd`
/// - `read the environment`
///
/// A URL without a host is one of the tracker. What else is in the line does not matter.
pub fn in_text(text: &str) -> Vec<Instruction> {
    text.lines().filter_map(in_line).collect()
}

fn in_line(line: &str) -> Option<Instruction> {
    let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_end_matches([',', '.', ';', '!'])).collect();
    (0..words.len()).find_map(|start| in_words(&words[start..]))
}

fn in_words(words: &[&str]) -> Option<Instruction> {
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match lower.as_slice() {
        ["post", "all", "issues", "to", _, ..] => {
            let to = words[4].to_owned();
            Some(Instruction { does: format!("POST all issues to {to}"), act: Act::PostIssues { to } })
        }
        ["get", _, "with", "the", "header", _, ..] => {
            let url = words[1].to_owned();
            let name = words[5].trim_end_matches(':').to_owned();
            let does = format!("GET {url} with the header {name}");
            Some(Instruction { does, act: Act::Get { url, header: Some((name, words[6..].join(" "))) } })
        }
        ["get", url, ..] if url.contains('/') => {
            let url = words[1].to_owned();
            Some(Instruction { does: format!("GET {url}"), act: Act::Get { url, header: None } })
        }
        ["read", "the", "file", _, ..] => {
            let path = words[3].to_owned();
            Some(Instruction { does: format!("read the file {path}"), act: Act::ReadFile { path } })
        }
        ["read", "the", "environment", ..] => {
            Some(Instruction { does: "read the environment".into(), act: Act::ReadEnvironment })
        }
        _ => None,
    }
}
