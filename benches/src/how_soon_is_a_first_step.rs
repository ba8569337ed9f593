//! How soon does a restarted daemon run its first step, beside a daemon that has to compile the component first?

use std::time::Instant;

use palisade_proto::v1::steps_client::StepsClient;

use crate::{
    Server, guest, home, load,
    report::{Goal, Report, Row, quantile},
};

const ROUNDS: usize = 7;

pub async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = home()?;
        let daemon = Server::serve(&dir, |serve| serve)?;
        let start = Instant::now();
        load::push(&daemon.address, &guest("probe"), "probe").await?;
        load::step(StepsClient::new(load::connect(&daemon.address).await?)).await?;
        theirs.push(start.elapsed().as_secs_f64() * 1e3);
        drop(daemon);

        let daemon = Server::serve(&dir, |serve| serve)?;
        let start = Instant::now();
        load::step(StepsClient::new(load::connect(&daemon.address).await?)).await?;
        ours.push(start.elapsed().as_secs_f64() * 1e3);
    }
    report.add(Row {
        id: "G6".into(),
        what: "first step after a restart : with compilation".into(),
        ours: quantile(&mut ours, 0.5),
        theirs: quantile(&mut theirs, 0.5),
        unit: "ms",
        samples: ROUNDS,
        goal: Goal::None,
    });
    Ok(())
}
