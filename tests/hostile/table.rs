//! Rows of an attack, and their judgement.

use std::{collections::BTreeSet, net::SocketAddr, time::Instant};

use super::{
    ask::{Answered, Ask},
    report,
    rig::{Rig, Why},
    scene::Scene,
};
use crate::harness::upstream::Seen;

/// Which row a request is of: upstreams keep it.
const MARK: &str = "x-row";

/// One ask, and what must hold.
pub struct Row {
    pub name: String,
    pub ask: Ask,
    holds: Holds,
    checks: Vec<Check>,
    /// Headers that the daemon may add.
    added: Vec<&'static str>,
}

type Check = Box<dyn Fn(&Answered, &[Seen]) -> Result<(), String>>;

enum Holds {
    /// Nobody sees a request.
    Refused(&'static [Why]),
    /// The upstream sees exactly what was asked, once.
    Answered(u16),
    /// The upstream sees it once, and the guest does not get its answer.
    Cut(&'static [Why]),
    /// It may be refused; if it is not, the upstream sees exactly what was asked, once.
    Either,
    /// The upstream sees it once at most; what it sees is for the row to check.
    Once,
}

/// Headers that belong to the transport.
const TRANSPORT: &[&str] =
    &["host", "content-length", "transfer-encoding", "connection", ":scheme", ":authority", MARK];

impl Row {
    fn new(name: impl Into<String>, ask: Ask, holds: Holds) -> Self {
        Self { name: name.into(), ask, holds, checks: Vec::new(), added: Vec::new() }
    }

    pub fn refused(name: impl Into<String>, ask: Ask, why: &'static [Why]) -> Self {
        Self::new(name, ask, Holds::Refused(why))
    }

    /// A legal request: without those a table proves nothing.
    pub fn control(name: impl Into<String>, ask: Ask) -> Self {
        Self::answered(name, ask, 200)
    }

    pub fn answered(name: impl Into<String>, ask: Ask, status: u16) -> Self {
        Self::new(name, ask, Holds::Answered(status))
    }

    pub fn cut(name: impl Into<String>, ask: Ask, why: &'static [Why]) -> Self {
        Self::new(name, ask, Holds::Cut(why))
    }

    pub fn either(name: impl Into<String>, ask: Ask) -> Self {
        Self::new(name, ask, Holds::Either)
    }

    pub fn once(name: impl Into<String>, ask: Ask) -> Self {
        Self::new(name, ask, Holds::Once)
    }

    pub fn and(mut self, check: impl Fn(&Answered, &[Seen]) -> Result<(), String> + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    pub fn adds(mut self, header: &'static str) -> Self {
        self.added.push(header);
        self
    }

    fn judge(&self, answered: &Answered, seen: &[Seen]) -> Vec<String> {
        let mut wrong = Vec::new();
        let fits = |why: &[Why]| answered.failure().is_some_and(|failure| why.iter().any(|why| why.is(failure)));
        match &self.holds {
            Holds::Refused(why) => {
                if !fits(why) {
                    wrong.push(format!("is not refused with {why:?}: {answered:?}"));
                }
                if !seen.is_empty() {
                    wrong.push(format!("was sent: {}", lossy(&seen[0].head)));
                }
            }
            Holds::Answered(status) => match answered {
                Answered::Ok(response) if response.status == *status && response.broken.is_none() => {
                    wrong.extend(self.exactly(seen));
                }
                other => wrong.push(format!("is not answered with {status}: {other:?}")),
            },
            Holds::Cut(why) => {
                if !fits(why) {
                    wrong.push(format!("is not cut with {why:?}: {answered:?}"));
                }
                if seen.len() > 1 {
                    wrong.push(format!("was sent {} times", seen.len()));
                }
            }
            Holds::Once if seen.len() > 1 => wrong.push(format!("was sent {} times", seen.len())),
            Holds::Once => {}
            Holds::Either if seen.is_empty() => {
                if let Answered::Ok(response) = answered {
                    wrong.push(format!("was answered by nobody that we know: {response:?}"));
                }
            }
            Holds::Either => wrong.extend(self.exactly(seen)),
        }
        if !wrong.is_empty() {
            return wrong;
        }
        wrong.extend(self.checks.iter().filter_map(|check| check(answered, seen).err()));
        wrong
    }

    /// The upstream saw this request once, as it was asked and with nothing added.
    fn exactly(&self, seen: &[Seen]) -> Vec<String> {
        let [seen] = seen else { return vec![format!("was seen {} times", seen.len())] };
        let mut wrong = Vec::new();
        let mut same = |what: &str, sent: &str, asked: &str| {
            if sent != asked {
                wrong.push(format!("{what} is `{sent}` and was `{asked}`"));
            }
        };
        same("the method", &seen.method, &self.ask.method);
        same("the target", &seen.target, self.ask.path_with_query.as_deref().unwrap_or("/"));
        let asked = self.ask.authority.clone().unwrap_or_default().to_lowercase();
        let usual = if self.ask.scheme.as_deref() == Some("http") { ":80" } else { ":443" };
        let asked = asked.strip_suffix(usual).unwrap_or(&asked).to_owned();
        let host = seen.host().unwrap_or_default();
        same("the host", host.strip_suffix(usual).unwrap_or(&host), &asked);
        let (name, _) = asked.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).unwrap_or((&asked, ""));
        if seen.sni.is_some() {
            same("the name in the handshake", seen.sni.as_deref().unwrap_or_default(), name);
        }
        same("the body", &lossy(&seen.body), &lossy(&self.ask.content()));
        for (name, value) in &seen.headers {
            let known = TRANSPORT.contains(&name.to_lowercase().as_str())
                || self.added.iter().any(|added| name.eq_ignore_ascii_case(added))
                || self.ask.headers.iter().any(|(of, sent)| of.eq_ignore_ascii_case(name) && sent.bytes() == *value);
            if !known {
                wrong.push(format!("`{name}: {}` was added", lossy(value)));
            }
        }
        for (name, _) in &self.ask.headers {
            if seen.values(name).is_empty() && !TRANSPORT.contains(&name.to_lowercase().as_str()) {
                wrong.push(format!("`{name}` was lost"));
            }
        }
        wrong
    }
}

/// Asks all rows in one step and judges each, and what everybody else saw.
pub async fn hold(scene: &Scene, rig: &Rig, rows: Vec<Row>) -> Vec<Answered> {
    held(scene, rig, rows, async |asks| rig.send(asks).await).await
}

/// The same with a step for each row, all at once: for rows that take time.
pub async fn hold_at_once(scene: &Scene, rig: &Rig, rows: Vec<Row>) -> Vec<Answered> {
    held(scene, rig, rows, async |asks| rig.send_at_once(asks).await).await
}

async fn held(
    scene: &Scene,
    rig: &Rig,
    rows: Vec<Row>,
    send: impl AsyncFnOnce(Vec<Ask>) -> Vec<Answered>,
) -> Vec<Answered> {
    assert!(rows.iter().any(|row| matches!(row.holds, Holds::Answered(_))), "a table without a control proves nothing");
    let names: BTreeSet<_> = rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), rows.len(), "each row has a name of its own");
    let before: Vec<_> = scene.upstreams().map(|upstream| upstream.seen().len()).collect();
    let asks = rows.iter().map(|row| row.ask.clone().header(MARK, row.name.clone()));
    let began = Instant::now();
    let answered = send(asks.collect()).await;
    let new = scene.upstreams().zip(before).flat_map(|(upstream, before)| upstream.seen().split_off(before));
    let (bad, wrong) = judged(scene, rig, &rows, &answered, &new.collect::<Vec<_>>());
    report::held(rows.len(), rows.len() - bad, began.elapsed());
    let wrong: Vec<_> = wrong.iter().map(|what| what.chars().take(2000).collect::<String>()).collect();
    assert!(wrong.is_empty(), "of {} rows {bad} do not hold:\n{}", rows.len(), wrong.join("\n"));
    answered
}

/// Returns how many rows do not hold, and all that is wrong, with or without a row.
fn judged(scene: &Scene, rig: &Rig, rows: &[Row], answered: &[Answered], all: &[Seen]) -> (usize, Vec<String>) {
    let (mut bad, mut wrong) = (0, Vec::new());
    for (row, answered) in rows.iter().zip(answered) {
        let of_row = all.iter().filter(|seen| seen.value(MARK).as_deref() == Some(&row.name));
        let seen: Vec<_> = of_row.cloned().collect();
        let of_row = row.judge(answered, &seen);
        bad += usize::from(!of_row.is_empty());
        wrong.extend(of_row.into_iter().map(|what| format!("  {}: {what}", row.name)));
    }
    // What was smuggled in has no mark, or another one.
    let known = |seen: &Seen| seen.value(MARK).is_some_and(|mark| rows.iter().any(|row| row.name == mark));
    wrong.extend(all.iter().filter(|seen| !known(seen)).map(|seen| format!("  nobody asked: {}", lossy(&seen.head))));
    wrong.extend(others(scene, rig));
    (bad, wrong)
}

/// What anybody saw who should not have seen anything.
pub fn others(scene: &Scene, rig: &Rig) -> Vec<String> {
    let mut wrong: Vec<_> = scene
        .canary
        .touched()
        .iter()
        .map(|touch| format!("  a canary at {} {} was sent: {}", touch.over, touch.at, lossy(&touch.bytes)))
        .collect();
    let names = scene.dns.names();
    let strange = names.iter().filter(|name| !scene.names.contains(name));
    wrong.extend(strange.map(|name| format!("  the name server was asked for `{name}`")));
    if let Some(packets) = &scene.packets {
        let mut allowed: Vec<_> = scene.upstreams().map(|upstream| upstream.address).collect();
        allowed.push(scene.dns.address);
        allowed.extend(rig.own());
        let known = |address: &SocketAddr| allowed.contains(address);
        let strange = packets.seen().into_iter().filter(|packet| !known(&packet.to) && !known(&packet.from));
        wrong.extend(strange.map(|packet| format!("  a {} packet was sent to {}", packet.over, packet.to)));
    }
    wrong
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(4000)]).into_owned()
}
