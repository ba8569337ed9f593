//! How far is a step over gRPC from the processes that people start today for the same trivial work?

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use palisade_proto::v1::steps_client::StepsClient;

use crate::{
    Server, load,
    report::{Goal, Report, Row, quantile},
};

const ROUNDS: usize = 40;

/// Of steps, after each process.
const ROUND: Duration = Duration::from_millis(5);

/// A program that is started, if it is installed, and how many times faster a step should be.
const PROCESSES: &[(&str, &[&str], f64)] = &[
    ("bwrap", &["--ro-bind", "/", "/", "--unshare-all", "true"], 20.0),
    ("node", &["-e", "0"], 100.0),
    ("python3", &["-c", "0"], 0.0),
];

pub async fn measure(report: &mut Report, daemon: &Server) -> anyhow::Result<()> {
    let steps = StepsClient::new(load::connect(&daemon.address).await?);
    for (program, arguments, times) in PROCESSES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let started = Command::new(program).args(*arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            let took = start.elapsed().as_secs_f64() * 1e6;
            if started.is_ok_and(|status| status.success()) {
                theirs.push(took);
                ours.extend(load::round(ROUND, 1, || load::step(steps.clone())).await?.latencies_us);
            }
        }
        if theirs.is_empty() {
            eprintln!("{program} does not run here: not compared");
            continue;
        }
        report.add(Row {
            id: "G9".into(),
            what: format!("RunStep : {program} process"),
            ours: quantile(&mut ours, 0.5),
            theirs: quantile(&mut theirs, 0.5),
            unit: "µs",
            samples: theirs.len(),
            goal: if *times > 0.0 { Goal::AtMost(1.0 / times) } else { Goal::None },
        });
    }
    Ok(())
}
