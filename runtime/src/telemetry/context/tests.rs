use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn from(traceparent: &str) -> Context {
    Context::from_headers(Some(traceparent), None)
}

fn state(tracestate: &str) -> String {
    let context = Context::from_headers(Some(&format!("00-{TRACE}-{SPAN}-01")), Some(tracestate));
    assert_eq!(context.trace_id().as_deref(), Some(TRACE), "a bad tracestate must not cost the trace");
    context.valid().unwrap().trace_state().header()
}

#[test]
fn a_well_formed_header_names_trace_and_span() {
    let context = from(&format!("00-{TRACE}-{SPAN}-01"));
    assert_eq!(context.trace_id().as_deref(), Some(TRACE));
    assert_eq!(context.span_id().as_deref(), Some(SPAN));
    let span = context.valid().unwrap();
    assert!(span.is_sampled() && span.is_remote());
}

#[test]
fn only_the_sampled_flag_is_taken_over() {
    let flags = |flags| from(&format!("00-{TRACE}-{SPAN}-{flags}")).valid().unwrap().trace_flags();
    assert_eq!(flags("00"), TraceFlags::NOT_SAMPLED);
    assert_eq!(flags("fe"), TraceFlags::NOT_SAMPLED);
    assert_eq!(flags("ff"), TraceFlags::SAMPLED);
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    assert!(from(&format!("01-{TRACE}-{SPAN}-01")).trace_id().is_some());
    assert!(from(&format!("cc-{TRACE}-{SPAN}-01-what-comes-next")).trace_id().is_some());
    assert!(from(&format!("cc-{TRACE}-{SPAN}-01.what-comes-next")).trace_id().is_none());
    assert!(from(&format!("cc-{TRACE}-{SPAN}-01-{}", "x".repeat(300))).trace_id().is_none());
}

#[test]
fn a_header_that_is_not_well_formed_gives_no_place() {
    let zero_trace = "0".repeat(32);
    let zero_span = "0".repeat(16);
    for bad in [
        String::new(),
        "00".into(),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("00-{TRACE}-{SPAN}-01 "),
        format!(" 00-{TRACE}-{SPAN}-01"),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("0g-{TRACE}-{SPAN}-01"),
        format!("00_{TRACE}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
        format!("00-{TRACE}-{SPAN}-0A"),
        format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{zero_trace}-{SPAN}-01"),
        format!("00-{TRACE}-{zero_span}-01"),
        format!("00-{TRACE}-é{}-01", &SPAN[2..]),
    ] {
        assert_eq!(from(&bad).trace_id(), None, "{bad}");
        assert_eq!(from(&bad).span_id(), None, "{bad}");
    }
    assert_eq!(Context::from_headers(None, Some("a=b")).trace_id(), None);
}

#[test]
fn a_tracestate_is_kept_if_it_is_good_and_small() {
    assert_eq!(state("rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
    assert_eq!(state("no member"), "");
    assert_eq!(state(&format!("a={}", "x".repeat(TRACESTATE_BYTES_MAX))), "");
    let many: Vec<_> = (0..=TRACESTATE_MEMBERS_MAX).map(|n| format!("k{n}=v")).collect();
    assert_eq!(state(&many.join(",")), "");
    assert_eq!(state(&many[1..].join(",")), many[1..].join(","));
}

proptest! {
    #[test]
    fn no_header_is_too_strange(traceparent: String, tracestate: String) {
        let context = Context::from_headers(Some(&traceparent), Some(&tracestate));
        prop_assert_eq!(context.trace_id().is_some(), context.span_id().is_some());
    }

    #[test]
    fn every_place_survives_its_header(trace in 1u128.., span in 1u64.., flags: u8, tracestate in "[a-z=, \t]{0,40}") {
        let traceparent = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
        let context = Context::from_headers(Some(&traceparent), Some(&tracestate));
        prop_assert_eq!(context.trace_id(), Some(format!("{trace:032x}")));
        prop_assert_eq!(context.span_id(), Some(format!("{span:016x}")));
    }

    #[test]
    fn one_changed_byte_never_gives_another_shape(at in 0usize..55, byte in 0x20u8..0x7f) {
        let mut header = format!("00-{TRACE}-{SPAN}-01").into_bytes();
        header[at] = byte;
        let header = String::from_utf8(header).unwrap();
        let digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let separator = [2, 35, 52].contains(&at);
        let good = if separator { byte == b'-' } else { digit && &header[..2] != "ff" };
        prop_assert_eq!(from(&header).trace_id().is_some(), good, "{}", header);
    }
}
