//! Our words to the contract's and back.

use std::time::{Duration, SystemTime};

use palisade_proto::v1;

use crate::{
    budget::Amounts,
    lifecycle::Finished,
    step::{Effect, Event, Failure, Kind, Level, Outcome, StepLimits, Stream, Usage},
};

pub fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: int(time.as_secs()), nanos: time.subsec_nanos() as i32 }
}

pub fn kind(kind: Kind) -> v1::component::Kind {
    match kind {
        Kind::Step => v1::component::Kind::Step,
        Kind::Tool => v1::component::Kind::Tool,
        Kind::Command => v1::component::Kind::Command,
    }
}

pub fn limits(limits: &StepLimits) -> v1::StepLimits {
    v1::StepLimits {
        fuel: Some(int(limits.fuel)),
        memory_bytes: Some(int(limits.memory_bytes)),
        timeout: Some(duration(Duration::from_millis(limits.timeout_ms))),
        output_bytes: Some(int(limits.output_bytes)),
        stdio_bytes: Some(int(limits.stdio_bytes)),
        events: Some(int(limits.events)),
    }
}

/// Returns a time that is given in milliseconds since 1970.
pub fn time(ms: u64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: (ms / 1000) as i64, nanos: (ms % 1000) as i32 * 1_000_000 }
}

pub fn event(sequence: i64, tool: Option<String>, event: Event) -> v1::StepEvent {
    use v1::step_event::Kind;
    let kind = match event {
        Event::Log { level, message, fields } => {
            let fields = fields.into_iter().map(|(key, value)| v1::Field { key, value }).collect();
            Kind::Log(v1::LogEvent { level: log_level(level).into(), message, fields })
        }
        Event::Progress { fraction, message } => Kind::Progress(v1::ProgressEvent { fraction, message }),
        Event::Output { stream, data } => {
            let stream = match stream {
                Stream::Stdout => v1::output_chunk::Stream::Stdout,
                Stream::Stderr => v1::output_chunk::Stream::Stderr,
            };
            Kind::Output(v1::OutputChunk { stream: stream.into(), data })
        }
    };
    v1::StepEvent { sequence, time: Some(SystemTime::now().into()), kind: Some(kind), tool: tool.unwrap_or_default() }
}

fn log_level(level: Level) -> v1::log_event::Level {
    match level {
        Level::Trace => v1::log_event::Level::Trace,
        Level::Debug => v1::log_event::Level::Debug,
        Level::Info => v1::log_event::Level::Info,
        Level::Warn => v1::log_event::Level::Warn,
        Level::Error => v1::log_event::Level::Error,
    }
}

pub fn budget(amounts: &Amounts) -> v1::Budget {
    v1::Budget {
        fuel: Some(int(amounts.fuel)),
        wall_time: Some(duration(Duration::from_millis(amounts.wall_ms))),
        host_calls: Some(int(amounts.host_calls)),
        tool_calls: Some(int(amounts.tool_calls)),
        bytes_in: Some(int(amounts.bytes_in)),
        bytes_out: Some(int(amounts.bytes_out)),
    }
}

pub fn effect(effect: Effect) -> v1::Effect {
    match effect {
        Effect::Read => v1::Effect::Read,
        Effect::Append => v1::Effect::Append,
        Effect::Mutate => v1::Effect::Mutate,
        Effect::Destroy => v1::Effect::Destroy,
        Effect::ExternalSend => v1::Effect::ExternalSend,
    }
}

pub fn result(step: String, finished: Finished) -> v1::StepResult {
    use v1::step_result::Outcome as Word;
    let Finished { outcome, usage: used, spent, checkpoint } = finished;
    let (usage, spent) = (Some(usage(&used)), Some(budget(&spent)));
    let mut result = v1::StepResult { step, usage, spent, checkpoint, ..v1::StepResult::default() };
    let plain =
        |failure: Failure| v1::StepFailure { code: failure.code, message: failure.message, ..Default::default() };
    let (word, failure) = match outcome {
        Outcome::Succeeded { output, content_type } => {
            result.output = output;
            result.content_type = content_type;
            (Word::Succeeded, None)
        }
        Outcome::Exited { code } => {
            result.exit_code = Some(code.into());
            let failure = Failure::new("NONZERO_EXIT", format!("the command exited with code {code}"));
            if code == 0 { (Word::Succeeded, None) } else { (Word::Failed, Some(plain(failure))) }
        }
        Outcome::Failed(failure) => (Word::Failed, Some(plain(failure))),
        Outcome::Trapped(failure) => (Word::Trapped, Some(plain(failure))),
        Outcome::LimitExceeded { failure, limit, value } => {
            (Word::LimitExceeded, Some(v1::StepFailure { limit, limit_value: int(value), ..plain(failure) }))
        }
        Outcome::Cancelled(failure) => (Word::Cancelled, Some(plain(failure))),
        Outcome::WorkerLost(failure) => (Word::WorkerLost, Some(plain(failure))),
        Outcome::Unrecorded(failure) => (Word::Unrecorded, Some(plain(failure))),
    };
    result.outcome = word.into();
    result.failure = failure;
    result
}

fn usage(usage: &Usage) -> v1::StepUsage {
    v1::StepUsage {
        fuel: int(usage.fuel),
        memory_peak_bytes: int(usage.memory_peak_bytes),
        wall_time: Some(duration(Duration::from_micros(usage.wall_time_us))),
        cpu_time: Some(duration(Duration::from_micros(usage.cpu_time_us))),
        input_bytes: int(usage.input_bytes),
        output_bytes: int(usage.output_bytes),
        stdio_bytes: int(usage.stdio_bytes),
        events: int(usage.events),
        disk_bytes: usage.disk_bytes,
        disk_entries: usage.disk_entries,
    }
}
