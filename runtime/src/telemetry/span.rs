//! One span, or nothing where none is recorded.

use std::{borrow::Cow, time::SystemTime};

use opentelemetry::{
    KeyValue, Value,
    trace::{Span as _, SpanKind, Status, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;

use super::{Context, names};

/// Bytes of an attribute or an event's text.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Bytes of arguments or of a result, if they are asked for.
const CONTENT_BYTES_MAX: usize = 16 << 10;

/// Something that takes time. It ends when it is dropped. Where nothing is recorded, it is its parent's context, its
/// methods do nothing, and none of it allocates.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: Context,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    span: opentelemetry_sdk::trace::Span,
    content: bool,
    stopped: Option<SystemTime>,
    /// An attribute that is set at the end, unless something else was said meanwhile.
    otherwise: Option<(&'static str, &'static str)>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some((key, value)) = self.otherwise {
            self.span.set_attribute(KeyValue::new(key, value));
        }
        match self.stopped {
            Some(time) => self.span.end_with_timestamp(time),
            None => self.span.end(),
        }
    }
}

impl Span {
    /// Starts a span, if there is a tracer and it samples. `describe` is not called without a tracer; it returns the
    /// name and the attributes. Content is left out unless `content` is set.
    pub(super) fn start(
        tracer: Option<&SdkTracer>,
        parent: &Context,
        kind: SpanKind,
        content: bool,
        describe: impl FnOnce() -> (Cow<'static, str>, Vec<KeyValue>),
    ) -> Self {
        let Some(tracer) = tracer else { return Self { context: parent.clone(), recording: None } };
        let (name, attributes) = describe();
        let builder = tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        let span = tracer.build_with_context(builder, &parent.0);
        // After the shutdown, the tracer has nothing but invalid spans.
        let valid = span.span_context().is_valid();
        let context = if valid { Context::of(span.span_context().clone()) } else { parent.clone() };
        let recording =
            span.is_recording().then(|| Box::new(Recording { span, content, stopped: None, otherwise: None }));
        Self { context, recording }
    }

    /// Returns the place of this span, for its children and for records.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns whether anything is kept of this span.
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Says that what takes time is over now, and that there is more to be said of it.
    pub fn stop(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.stopped = Some(SystemTime::now());
        }
    }

    /// Marks what the span is about as failed. `error_type` is a stable code, `message` is for people.
    pub fn fail(&mut self, error_type: &str, message: &str) {
        self.set(names::ERROR_TYPE, || text(error_type));
        if let Some(recording) = &mut self.recording {
            recording.span.set_status(Status::error(cut(message, TEXT_BYTES_MAX).to_owned()));
        }
    }

    /// Sets an attribute. `value` is called only if the span is recorded.
    pub(super) fn set(&mut self, key: &'static str, value: impl FnOnce() -> Value) {
        if let Some(recording) = &mut self.recording {
            recording.otherwise = recording.otherwise.filter(|(other, _)| *other != key);
            recording.span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// Sets an attribute at the end, unless it is set before: the SDK would keep both.
    pub(super) fn otherwise(mut self, key: &'static str, value: &'static str) -> Self {
        if let Some(recording) = &mut self.recording {
            recording.otherwise = Some((key, value));
        }
        self
    }

    /// Sets an attribute that is payload, if the operator asked for that.
    pub(super) fn set_content(&mut self, key: &'static str, content: &[u8]) {
        if let Some(recording) = &mut self.recording
            && recording.content
        {
            let content = &content[..content.len().min(CONTENT_BYTES_MAX)];
            recording.span.set_attribute(KeyValue::new(key, String::from_utf8_lossy(content).into_owned()));
        }
    }

    /// Adds an event. `attributes` is called only if the span is recorded.
    pub(super) fn event(&mut self, name: &'static str, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(recording) = &mut self.recording {
            recording.span.add_event(name, attributes());
        }
    }
}

/// Returns a text for an attribute, of bounded length.
pub(super) fn text(text: &str) -> Value {
    Value::from(cut(text, TEXT_BYTES_MAX).to_owned())
}

/// Returns a number for an attribute: there are none above [`i64::MAX`].
pub(super) fn number(number: u64) -> Value {
    Value::from(i64::try_from(number).unwrap_or(i64::MAX))
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
