//! Tokens are fetched once, in good time, and by one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::credentials::{
    AttachError, Credentials, Fetch, Fetched, FetchedReply,
    tests::{Folder, advance, attach, credentials, header},
};

/// A token server that says what it is told, one answer for each request, when it is let.
struct Server {
    answers: Mutex<VecDeque<Result<(u16, String), String>>>,
    asked: Mutex<Vec<String>>,
    lets: Semaphore,
}

impl Server {
    fn new() -> Arc<Self> {
        Arc::new(Self { answers: Mutex::default(), asked: Mutex::default(), lets: Semaphore::new(1000) })
    }

    fn answers(&self, status: u16, body: &str) {
        self.answers.lock().unwrap().push_back(Ok((status, body.into())));
    }

    fn gives(&self, token: &str, expires_in: u64) {
        let body = format!(r#"{{"access_token": "{token}", "token_type": "Bearer", "expires_in": {expires_in}}}"#);
        self.answers(200, &body);
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl Fetch for Server {
    async fn fetch(&self, request: Fetched) -> Result<FetchedReply, String> {
        let authorization = request.headers.get("authorization").map(|value| value.to_str().unwrap().to_string());
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        let line = format!("{} {} {body} {authorization:?}", request.method, request.url);
        self.asked.lock().unwrap().push(line);
        self.lets.acquire().await.unwrap().forget();
        let answer = self.answers.lock().unwrap().pop_front();
        let (status, body) = answer.unwrap_or_else(|| Err("connection refused".into()))?;
        Ok(FetchedReply { status, body: body.into() })
    }
}

fn open(server: &Arc<Server>, folder: &Folder, rest: &str) -> Credentials {
    folder.write("secret", "client+secret\n");
    let toml = format!(
        r#"
        [[credential]]
        name = "oauth"
        type = "oauth-client-credentials"
        token_url = "https://login.example.com/token"
        client_id = "client id"
        source = {{ file = "DIR/secret" }}
        {rest}"#
    );
    credentials(&toml, folder, server.clone())
}

async fn token(credentials: &Credentials) -> String {
    let attached = attach(credentials, "oauth").await.unwrap_or_else(|error| panic!("{error:?}"));
    let header = header(&attached, "authorization");
    let token = header.strip_prefix("Bearer ").unwrap();
    assert_eq!(attached.scrubber.text(token), "*".repeat(token.len()));
    token.into()
}

async fn failure(credentials: &Credentials) -> String {
    match attach(credentials, "oauth").await {
        Err(AttachError::Unavailable { why, .. }) => why,
        _ => panic!("it was attached"),
    }
}

#[tokio::test]
async fn the_client_shows_its_secret_as_it_is_told() {
    let (server, folder) = (Server::new(), Folder::new());
    let basic = open(&server, &folder, "scopes = ['a/b', 'c']\naudience = 'x&y'");
    server.gives("first-token", 3600);
    token(&basic).await;
    let body = open(&server, &folder, "authentication = 'body'");
    server.gives("first-token", 3600);
    token(&body).await;
    let asked = server.asked.lock().unwrap();
    // RFC 6749, 2.3.1: encoded as in a form, then as in basic authentication.
    assert_eq!(
        asked[0],
        "POST https://login.example.com/token grant_type=client_credentials&scope=a%2Fb%20c&audience=x%26y \
         Some(\"Basic Y2xpZW50JTIwaWQ6Y2xpZW50JTJCc2VjcmV0\")"
    );
    assert_eq!(
        asked[1],
        "POST https://login.example.com/token grant_type=client_credentials&client_id=client%20id\
         &client_secret=client%2Bsecret None"
    );
}

#[tokio::test]
async fn a_token_is_used_until_shortly_before_its_end_and_renewed_before() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    server.gives("first-token", 1000);
    assert_eq!(token(&credentials).await, "first-token");
    advance(749);
    assert_eq!(token(&credentials).await, "first-token");
    server.gives("other-token", 1000);
    advance(1);
    assert_eq!(token(&credentials).await, "other-token");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_failed_renewal_keeps_a_token_that_is_still_good() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    server.gives("first-token", 1000);
    assert_eq!(token(&credentials).await, "first-token");
    advance(800);
    server.answers(503, "busy");
    for _ in 0..10 {
        assert_eq!(token(&credentials).await, "first-token");
    }
    assert_eq!(server.asked(), 2);
    advance(189);
    assert_eq!(token(&credentials).await, "first-token");
    advance(1);
    assert!(failure(&credentials).await.contains("could not be reached: connection refused"));
    // A moment later, it is tried again.
    server.gives("other-token", 1000);
    advance(1);
    assert_eq!(token(&credentials).await, "other-token");
}

#[tokio::test]
async fn calls_at_the_same_time_ask_once() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    server.gives("first-token", 1000);
    let tokens = futures::future::join_all((0..50).map(|_| token(&credentials))).await;
    assert!(tokens.iter().all(|token| token == "first-token"));
    assert_eq!(server.asked(), 1);
    // While one renews, the others go on with what they have.
    advance(800);
    server.lets.forget_permits(1000);
    server.gives("other-token", 1000);
    let renewal = token(&credentials);
    tokio::pin!(renewal);
    assert!(is_pending(renewal.as_mut()).await);
    while server.asked() < 2 {
        tokio::task::yield_now().await;
        assert!(is_pending(renewal.as_mut()).await);
    }
    assert_eq!(token(&credentials).await, "first-token");
    server.lets.add_permits(1);
    assert_eq!(renewal.await, "other-token");
    assert_eq!(token(&credentials).await, "other-token");
}

#[tokio::test]
async fn a_call_that_is_given_up_does_not_hold_up_the_next() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    server.lets.forget_permits(1000);
    {
        let given_up = token(&credentials);
        tokio::pin!(given_up);
        while server.asked() < 1 {
            assert!(is_pending(given_up.as_mut()).await);
            tokio::task::yield_now().await;
        }
    }
    server.lets.add_permits(1);
    server.gives("first-token", 1000);
    assert_eq!(token(&credentials).await, "first-token");
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_shows_nothing_of_it() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    let cases = [
        (401, r#"{"error": "invalid_client", "error_description": "not client+secret"}"#, "`invalid_client`"),
        (400, r#"{"error": "client+secret"}"#, "status 400"),
        (500, "client+secret", "status 500"),
        (302, "", "status 302"),
        (200, "client+secret", "something else"),
        (200, r#"{"access_token": "hunter2hunter2"}"#, "something else"),
        (200, r#"{"access_token": "hunter2hunter2", "token_type": "mac"}"#, "`bearer`"),
        (200, r#"{"access_token": "hunter2", "token_type": "bearer"}"#, "less than 8"),
    ];
    for (status, body, word) in cases {
        server.answers(status, body);
        let why = failure(&credentials).await;
        assert!(why.contains(word) && !why.contains("client+secret") && !why.contains("hunter2"), "{why}");
        advance(1);
    }
    server.answers(200, r#"{"access_token": "hunter2\nhunter2", "token_type": "bearer"}"#);
    assert!(failure(&credentials).await.contains("control character"));
}

#[tokio::test]
async fn a_life_is_read_in_all_its_spellings() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    for (spelling, life) in [("", 300), (r#", "expires_in": "1000""#, 1000), (r#", "expires_in": 1000"#, 1000)] {
        server.answers(200, &format!(r#"{{"access_token": "first-token", "token_type": "bearer"{spelling}}}"#));
        token(&credentials).await;
        let asked = server.asked();
        advance(life * 3 / 4 - 1);
        token(&credentials).await;
        assert_eq!(server.asked(), asked);
        advance(86_400);
    }
    // Longer than the clock goes: a day at most.
    server.gives("first-token", u64::MAX);
    token(&credentials).await;
    advance(86_400);
    assert!(failure(&credentials).await.contains("refused"));
}

#[tokio::test]
async fn a_revoked_client_forgets_its_token() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    server.gives("first-token", 1000);
    assert_eq!(token(&credentials).await, "first-token");
    credentials.revoke("oauth");
    credentials.restore("oauth");
    server.gives("other-token", 1000);
    assert_eq!(token(&credentials).await, "other-token");
}

#[tokio::test]
async fn what_is_fetched_while_it_is_dropped_is_not_kept() {
    let (server, folder) = (Server::new(), Folder::new());
    let credentials = open(&server, &folder, "");
    server.lets.forget_permits(1000);
    {
        let mut call = std::pin::pin!(token(&credentials));
        while server.asked() == 0 {
            assert!(is_pending(call.as_mut()).await);
            tokio::task::yield_now().await;
        }
        credentials.forget("oauth");
        server.gives("first-token", 1000);
        server.lets.add_permits(1);
        call.await;
    }
    server.gives("other-token", 1000);
    server.lets.add_permits(1);
    assert_eq!(token(&credentials).await, "other-token");
    assert!(credentials.forget("oauth"), "there is something to drop");
    assert!(!credentials.forget("oauth") && !credentials.forget("no-such"), "and then nothing");
}

/// Goes on with a call as far as it goes.
async fn is_pending(mut call: Pin<&mut impl Future>) -> bool {
    poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await
}
