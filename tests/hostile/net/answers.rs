//! NET-02: name servers that change their mind, say much, or lie.

use super::{
    super::{
        ask::Ask,
        rig::Why,
        scene::{GOOD, Scene},
        table::{Row, hold},
    },
    NOWHERE, get,
};
use crate::harness::dns::Says;

/// No answer, or not in time.
const NO_ANSWER: &[Why] = &[Why::Dns, Why::Timeout];

struct Names {
    scene: Scene,
    rows: Vec<Row>,
}

impl Names {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let good = get(&scene, GOOD, "/");
        Self { scene, rows: vec![Row::control("a name like any other", good)] }
    }

    fn good(&self) -> String {
        self.scene.tls.address.ip().to_string()
    }

    /// Adds a name of which that is said; returns the ask for it.
    fn name(&mut self, label: &str, says: Vec<Says>) -> Ask {
        let name = format!("{label}.wild.test");
        self.scene.dns.says_in_turn(&name, says);
        self.scene.allow_name(&name);
        get(&self.scene, &name, "/")
    }

    fn refused(&mut self, label: &str, says: Says, why: &'static [Why]) {
        let ask = self.name(label, vec![says]);
        self.rows.push(Row::refused(label, ask, why));
    }

    fn control(&mut self, label: &str, says: Says) {
        let ask = self.name(label, vec![says]);
        self.rows.push(Row::control(label, ask));
    }

    async fn hold(mut self) {
        let rules = self.scene.rule("name", GOOD, "")
            + &self.scene.rule("wild", "*.wild.test", "timeouts = { connect_ms = 1500 }");
        let rig = self.scene.rig(rules).await;
        self.rows.push(Row::control("a name like any other, afterwards", get(&self.scene, GOOD, "/after")));
        hold(&self.scene, &rig, self.rows).await;
    }
}

#[tokio::test]
async fn net_02_every_answer_has_to_be_a_good_one() {
    let mut names = Names::new().await;
    let good = names.good();
    let good = good.as_str();
    names.control("one", Says::addresses(&[good]));
    names.refused("bad-last", Says::addresses(&[good, "127.0.0.1"]), &[Why::Address]);
    names.refused("bad-first", Says::addresses(&["127.0.0.1", good]), &[Why::Address]);
    names.refused("bad-six", Says::addresses(&[good, "::1"]), &[Why::Address]);
    names.refused("bad-metadata-six", Says::addresses(&[good, "fd00:ec2::254"]), &[Why::Address]);
    names.refused("bad-mapped", Says::addresses(&[good, "::ffff:127.0.0.1"]), &[Why::Address]);
    names.refused("bad-unspecified", Says::addresses(&[good, "0.0.0.0"]), &[Why::Address]);
    names.control("thirty", Says::addresses(&[good; 30]));
    let mut many = vec![good; 200];
    many.push("127.0.0.1");
    names.refused("bad-after-200", Says::addresses(&many), NOWHERE);
    names.control("over-tcp", Says::Truncated(vec![good.parse().unwrap()]));
    names.refused("bad-over-tcp", Says::Truncated(vec!["127.0.0.1".parse().unwrap()]), &[Why::Address]);
    names.hold().await;
}

#[tokio::test]
async fn net_02_another_name_is_no_way_to_another_address() {
    let mut names = Names::new().await;
    let (good, bad) = (vec![names.good().parse().unwrap()], vec!["127.0.0.1".parse().unwrap()]);
    let chain = |count: usize| (0..count).map(|n| format!("c{n}.alias.test")).collect::<Vec<_>>();
    names.control("alias", Says::Aliases(vec!["public.alias.test".into()], good.clone()));
    names.refused("alias-inside", Says::Aliases(vec!["internal.alias.test".into()], bad.clone()), &[Why::Address]);
    names.refused("alias-to-localhost", Says::Aliases(vec!["localhost".into()], bad.clone()), NOWHERE);
    names.refused("chain-inside", Says::Aliases(chain(20), bad.clone()), NOWHERE);
    names.refused("loop", Says::Aliases(vec!["loop.wild.test".into()], Vec::new()), NO_ANSWER);
    // The resolver follows it by itself, and what it finds is judged all the same.
    names.scene.dns.has("second.alias.test", &["127.0.0.1"]);
    names.scene.dns.says("third.alias.test", Says::Alias("third.alias.test".into()));
    for name in ["second.alias.test", "third.alias.test", "internal.alias.test", "public.alias.test", "localhost"] {
        names.scene.allow_name(name);
    }
    for name in chain(20) {
        names.scene.allow_name(&name);
    }
    names.refused("alias-alone-inside", Says::Alias("second.alias.test".into()), NOWHERE);
    names.refused("alias-alone-loop", Says::Alias("third.alias.test".into()), NO_ANSWER);
    names.hold().await;
}

#[tokio::test]
async fn net_02_a_name_that_changes_its_mind_leads_nowhere_else() {
    let mut names = Names::new().await;
    let good = Says::addresses(&[&names.good()]);
    let bad = Says::addresses(&["127.0.0.1", "::1"]);
    for (label, says) in [
        ("then-bad", vec![good.clone(), bad.clone()]),
        ("by-turns", vec![good.clone(), bad.clone(), good.clone(), bad.clone(), good.clone()]),
        ("none-then-bad", vec![Says::NoSuchName, bad.clone()]),
        ("failure-then-good", vec![Says::Failure, good.clone()]),
        ("none-then-good", vec![Says::NoSuchName, good.clone()]),
    ] {
        let ask = names.name(label, says);
        for turn in 0..5 {
            // Whether it is answered depends on what is said, but it is answered by the good one alone.
            names.rows.push(Row::either(format!("{label} {turn}"), ask.clone()));
        }
    }
    names.hold().await;
}

#[tokio::test]
async fn net_02_a_name_server_that_fails_or_lies_refuses_the_name() {
    let mut names = Names::new().await;
    let bad = vec!["127.0.0.1".parse().unwrap()];
    names.refused("no-such-name", Says::NoSuchName, &[Why::Dns]);
    names.refused("nothing", Says::Addresses(Vec::new()), &[Why::Dns]);
    names.refused("failure", Says::Failure, NO_ANSWER);
    names.refused("refusal", Says::Refusal, NO_ANSWER);
    names.refused("silence", Says::Silence, NO_ANSWER);
    names.refused("garbage", Says::Bytes(vec![0xff; 40]), NO_ANSWER);
    names.refused("short", Says::Bytes(vec![0x81]), NO_ANSWER);
    names.refused(
        "pointer-loop",
        Says::Bytes([&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..], &[0xc0, 12, 0, 1, 0, 1]].concat()),
        NO_ANSWER,
    );
    // What it says of another name is not believed: the last control finds the good one where it was.
    names.refused("poison", Says::Other { owner: GOOD.into(), addresses: bad.clone() }, NOWHERE);
    names.refused("poison-parent", Says::Other { owner: "wild.test".into(), addresses: bad }, NOWHERE);
    names.hold().await;
}
