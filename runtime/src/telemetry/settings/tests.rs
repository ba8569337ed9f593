use super::*;

fn plan(variables: &[(&str, &str)]) -> Result<Plan, TelemetryError> {
    Plan::read(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
}

fn sent(variables: &[(&str, &str)]) -> (Option<String>, Option<String>) {
    let plan = plan(variables).unwrap();
    (plan.traces, plan.metrics)
}

fn refused(variables: &[(&str, &str)]) -> String {
    plan(variables).unwrap_err().to_string()
}

const HERE: &str = "http://127.0.0.1:4317";
const THERE: &str = "http://127.0.0.1:5317";

#[test]
fn nothing_is_sent_unless_asked_for() {
    assert_eq!(sent(&[]), (None, None));
    assert_eq!(sent(&[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), (None, None));
    // Alone, it says how and not that.
    assert_eq!(sent(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]), (None, None));
}

#[test]
fn an_endpoint_or_an_exporter_asks_for_it() {
    let here = || Some(HERE.to_owned());
    assert_eq!(sent(&[("OTEL_EXPORTER_OTLP_ENDPOINT", HERE)]), (here(), here()));
    assert_eq!(sent(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", HERE)]), (here(), None));
    assert_eq!(sent(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", HERE)]), (None, here()));
    assert_eq!(sent(&[("OTEL_TRACES_EXPORTER", "otlp")]), (Some(ENDPOINT.into()), None));
    assert_eq!(sent(&[("OTEL_METRICS_EXPORTER", "otlp")]), (None, Some(ENDPOINT.into())));
}

#[test]
fn the_endpoint_of_a_signal_goes_before_the_common_one() {
    let both = [("OTEL_EXPORTER_OTLP_ENDPOINT", HERE), ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", THERE)];
    assert_eq!(sent(&both), (Some(HERE.into()), Some(THERE.into())));
}

#[test]
fn none_and_disabled_switch_off() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", HERE);
    assert_eq!(sent(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), (None, Some(HERE.into())));
    assert_eq!(sent(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]), (Some(HERE.into()), None));
    assert_eq!(sent(&[endpoint, ("OTEL_SDK_DISABLED", "True")]), (None, None));
    assert_eq!(sent(&[endpoint, ("OTEL_SDK_DISABLED", "false")]), (Some(HERE.into()), Some(HERE.into())));
    // What is off cannot be wrong.
    let wrong = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    assert_eq!(sent(&[endpoint, wrong, ("OTEL_SDK_DISABLED", "true")]), (None, None));
}

#[test]
fn what_is_not_supported_is_refused_by_the_variables_name() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", HERE);
    for (variable, value, said) in [
        ("OTEL_TRACES_EXPORTER", "zipkin", "`OTEL_TRACES_EXPORTER` is `zipkin`"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "`OTEL_METRICS_EXPORTER` is `prometheus`"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "`OTEL_EXPORTER_OTLP_PROTOCOL` is `http/protobuf`"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` is `http/json`"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "GRPC", "`OTEL_EXPORTER_OTLP_METRICS_PROTOCOL` is `GRPC`"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://far.example",
            "is `https://far.example`: use `http://host:port`",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "localhost:4317",
            "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is `localhost:4317`",
        ),
    ] {
        let message = refused(&[endpoint, (variable, value)]);
        assert!(message.contains(said), "{message}");
    }
    let long = "x".repeat(10_000);
    assert!(refused(&[("OTEL_TRACES_EXPORTER", &long)]).len() < 200);
}

#[test]
fn the_protocol_of_a_signal_goes_before_the_common_one() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", HERE),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    assert_eq!(sent(&variables), (Some(HERE.into()), None));
}

#[test]
fn the_queue_has_room_for_one_and_for_no_more_than_can_be_kept() {
    let room = |size| plan(&[("OTEL_BSP_MAX_QUEUE_SIZE", size)]).unwrap().queue_spans;
    assert_eq!(room("1"), 1);
    assert_eq!(room("4096"), 4096);
    assert_eq!(room("99999999999"), QUEUE_SPANS_MAX);
    for bad in ["", "0", "-1", "many"] {
        assert_eq!(room(bad), QUEUE_SPANS, "{bad}");
    }
}

#[test]
fn content_and_the_services_name_are_the_operators() {
    let off = plan(&[("OTEL_RESOURCE_ATTRIBUTES", "team=x,my.service.name=y")]).unwrap();
    assert!(!off.content && !off.named);
    let content = plan(&[("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")]).unwrap();
    assert!(content.content);
    assert!(plan(&[("OTEL_SERVICE_NAME", "x")]).unwrap().named);
    assert!(plan(&[("OTEL_RESOURCE_ATTRIBUTES", "team=x, service.name=y")]).unwrap().named);
}
