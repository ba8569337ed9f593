//! A plain WASI program that knows nothing of Palisade: says what it was given and exits with the code that it
//! is told.

use std::io::{Read as _, Write as _};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut env: Vec<_> = std::env::vars().collect();
    env.sort();
    let mut input = String::new();
    let _ = std::io::stdin().read_to_string(&mut input);
    println!("args {args:?}");
    println!("env {env:?}");
    println!("stdin {input:?}");
    eprintln!("on standard error");
    let _ = std::io::stdout().flush();
    std::process::exit(args.first().and_then(|a| a.parse().ok()).unwrap_or(0));
}
