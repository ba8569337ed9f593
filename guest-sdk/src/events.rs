//! Tells the caller what happens while the step runs.
//!
//! Each call is one event against the step's `events` limit. Outside the sandbox they go to standard error.

use std::fmt::Display;

#[cfg(target_arch = "wasm32")]
use crate::bindings::palisade::agent::events as host;

/// How much a log event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Sends a log event with structured fields. The macros [`info!`], [`warn!`] and [`error!`] are shorter.
pub fn log(level: Level, message: impl Display, fields: &[(&str, &dyn Display)]) {
    #[cfg(target_arch = "wasm32")]
    {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        let fields: Vec<_> =
            fields.iter().map(|(key, value)| host::Field { key: (*key).into(), value: value.to_string() }).collect();
        host::log(level, &message.to_string(), &fields);
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        let fields: String = fields.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        eprintln!("{level:?} {message}{fields}");
    }
}

/// Tells how far the step is, from 0 to 1, and what it does now.
pub fn progress(fraction: f64, message: impl Display) {
    #[cfg(target_arch = "wasm32")]
    host::progress(fraction, &message.to_string());
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{:3.0} % {message}", fraction * 100.0);
}

/// Logs at level info: `info!("message", key = value, …)`.
#[macro_export]
#[doc(hidden)]
macro_rules! __info {
    ($message:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::events::log($crate::events::Level::Info, $message, &[$((stringify!($key), &$value)),*])
    };
}

/// Logs at level warn: `warn!("message", key = value, …)`.
#[macro_export]
#[doc(hidden)]
macro_rules! __warn {
    ($message:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::events::log($crate::events::Level::Warn, $message, &[$((stringify!($key), &$value)),*])
    };
}

/// Logs at level error: `error!("message", key = value, …)`.
#[macro_export]
#[doc(hidden)]
macro_rules! __error {
    ($message:expr $(, $key:ident = $value:expr)* $(,)?) => {
        $crate::events::log($crate::events::Level::Error, $message, &[$((stringify!($key), &$value)),*])
    };
}

pub use {__error as error, __info as info, __warn as warn};
