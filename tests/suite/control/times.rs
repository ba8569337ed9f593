//! How long stops take.

use std::time::Duration;

use palisade_proto::v1;
use tokio::time::Instant;

use crate::harness::Daemon;

/// Stops of each kind.
pub const STOPS: usize = 200;

/// 99 of 100 stops take no longer, but for what the machine itself takes to answer at all meanwhile.
pub const BOUND: Duration = Duration::from_millis(50);

pub fn took(time: Option<&prost_types::Duration>) -> Duration {
    Duration::try_from(*time.unwrap()).unwrap()
}

/// How long stops took until what they stopped ran no more; and how long answers took for which nothing is to be done.
#[derive(Default)]
pub struct Times {
    pub stops: Vec<Duration>,
    pub answers: Vec<Duration>,
}

/// How long an answer takes for which nothing is to be done.
pub async fn answer(daemon: &Daemon) -> Duration {
    let asked = Instant::now();
    daemon.system().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    asked.elapsed()
}

/// Returns how long 99 of 100 took, if that is too long, and answers.
pub fn in_time(Times { mut stops, mut answers }: Times) -> Result<(), (Duration, Duration)> {
    stops.sort();
    answers.sort();
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    let (median, stop, answer) = (stops[stops.len() / 2], p99(&stops), p99(&answers));
    println!("{} stops: median {median:?}, 99 of 100 within {stop:?}; answers within {answer:?}", stops.len());
    (stop <= BOUND + answer).then_some(()).ok_or((stop, answer))
}
