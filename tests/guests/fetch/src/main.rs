//! An ordinary HTTP client for WASI, which knows nothing of Palisade: `fetch URL [BODY]` says the status and the body of
//! what it gets, or of what it posts.

use wstd::http::{Body, Client, Request};

#[wstd::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let request = match arguments.as_slice() {
        [url] => Request::get(url).body(Body::empty())?,
        [url, body] => Request::post(url).header("content-type", "text/plain").body(Body::from(body.as_str()))?,
        _ => return Err("usage: fetch URL [BODY]".into()),
    };
    let mut response = Client::new().send(request).await?;
    println!("{}", response.status().as_u16());
    println!("{}", response.body_mut().str_contents().await?);
    Ok(())
}
