//! NET-03: redirects are answers like any other.

use super::{
    super::{
        rig::Why,
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    get,
};
use crate::harness::upstream::Reply;

#[tokio::test]
async fn net_03_a_redirect_is_returned_and_never_followed() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "")).await;
    scene.dns.has("evil.test", &["127.0.0.1"]);
    let port = scene.tls.address.port();
    let locations = [
        format!("https://evil.test:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("http://{}/", scene.clear_at(GOOD)),
        "//evil.test/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "/again".to_owned(),
    ];
    let mut rows = vec![Row::control("no redirect", get(&scene, GOOD, "/"))];
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for (index, location) in locations.iter().enumerate() {
            let (path, to) = (format!("/r/{status}/{index}"), location.clone());
            let answered = to.clone();
            scene.tls.on(&path, move |_| Reply::status(status).header("location", to.clone()));
            let row = Row::answered(format!("{status} to {location}"), get(&scene, GOOD, &path), status);
            rows.push(row.and(move |it, _| {
                let told = it.response().values("location");
                (told == [answered.clone()]).then_some(()).ok_or_else(|| format!("the guest was told {told:?}"))
            }));
        }
    }
    scene.tls.on("/refresh", move |_| {
        Reply::text("<meta http-equiv=refresh content='0;url=https://evil.test/'>")
            .header("refresh", "0;url=https://evil.test/")
    });
    scene.tls.on("/alternative", move |_| Reply::text("").header("alt-svc", format!("h2=\"evil.test:{port}\"")));
    rows.push(Row::control("a refresh", get(&scene, GOOD, "/refresh")));
    rows.push(Row::control("an alternative service", get(&scene, GOOD, "/alternative")));
    rows.push(Row::control("after the alternative", get(&scene, GOOD, "/again")));
    // Whoever wants to follow asks again, and is judged again.
    let evil = get(&scene, "evil.test", "/");
    rows.push(Row::refused("the guest follows by itself", evil, &[Why::Rule]));
    hold(&scene, &rig, rows).await;
}

#[tokio::test]
async fn net_03_thirty_hops_are_thirty_requests_of_the_guest() {
    let scene = Scene::new().await;
    let rig = scene.rig(scene.rule("name", GOOD, "")).await;
    let mut rows = vec![Row::control("no redirect", get(&scene, GOOD, "/"))];
    for hop in 0..30 {
        scene.tls.on(&format!("/hop/{hop}"), move |_| {
            Reply::status(302).header("location", format!("/hop/{}", (hop + 1) % 30))
        });
        rows.push(Row::answered(format!("hop {hop}"), get(&scene, GOOD, &format!("/hop/{hop}")), 302));
    }
    hold(&scene, &rig, rows).await;
    assert_eq!(scene.tls.seen().len(), 31);
}
