//! Where in whose trace something happens: the W3C trace context of a caller, or of one of our spans.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

#[cfg(test)]
mod tests;

/// Bytes of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// Bytes of a `traceparent` of a later version, of which we read the part that version 00 has.
const TRACEPARENT_BYTES_MAX: usize = 256;

/// Bytes and members of a `tracestate`. A longer one is left out, as the specification allows.
const TRACESTATE_BYTES_MAX: usize = 512;
const TRACESTATE_MEMBERS_MAX: usize = 32;

/// A place in a trace, or none. Cheap to clone. Works with telemetry off, too, so that records name the caller's trace.
#[derive(Debug, Clone, Default)]
pub struct Context(pub(super) opentelemetry::Context);

impl Context {
    /// Returns the place that a caller's headers name. A `traceparent` that is missing or not well-formed gives none; a
    /// bad `tracestate` is left out.
    pub fn from_headers(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let Some((trace, span, flags)) = traceparent.and_then(parse_traceparent) else { return Self::default() };
        let state = tracestate.and_then(parse_tracestate).unwrap_or_default();
        Self::of(SpanContext::new(trace, span, flags, true, state))
    }

    /// Returns the trace, as 32 hex digits.
    pub fn trace_id(&self) -> Option<String> {
        self.valid().map(|span| span.trace_id().to_string())
    }

    /// Returns the span, as 16 hex digits.
    pub fn span_id(&self) -> Option<String> {
        self.valid().map(|span| span.span_id().to_string())
    }

    pub(super) fn of(span: SpanContext) -> Self {
        Self(opentelemetry::Context::new().with_remote_span_context(span))
    }

    fn valid(&self) -> Option<SpanContext> {
        self.0.has_active_span().then(|| self.0.span().span_context().clone()).filter(SpanContext::is_valid)
    }
}

fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let bytes = text.as_bytes();
    if !(TRACEPARENT_BYTES..=TRACEPARENT_BYTES_MAX).contains(&bytes.len()) {
        return None;
    }
    let separated = bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
    // Later versions may add fields, after a separator.
    let complete = match (&bytes[..2], bytes.get(TRACEPARENT_BYTES)) {
        (b"ff", _) => false,
        (_, None) => true,
        (version, Some(next)) => version != b"00" && *next == b'-',
    };
    if !separated || !complete {
        return None;
    }
    hex(&bytes[..2])?;
    let trace = TraceId::from(hex(&bytes[3..35])?);
    let span = SpanId::from(u64::try_from(hex(&bytes[36..52])?).ok()?);
    // The other bits are not ours to pass on.
    let flags = TraceFlags::new(u8::try_from(hex(&bytes[53..55])?).ok()?) & TraceFlags::SAMPLED;
    (trace != TraceId::INVALID && span != SpanId::INVALID).then_some((trace, span, flags))
}

fn parse_tracestate(text: &str) -> Option<TraceState> {
    let fits = text.len() <= TRACESTATE_BYTES_MAX && text.split(',').count() <= TRACESTATE_MEMBERS_MAX;
    if fits { text.parse().ok() } else { None }
}

/// Reads up to 32 lower-case digits, which is what the specification wants; the standard parsers take more.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}
