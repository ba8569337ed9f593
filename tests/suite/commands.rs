use palisade_proto::v1::{self, component::Kind, output_chunk::Stream, step_result::Outcome};

use crate::harness::{Daemon, reason};

fn command(args: &[&str]) -> v1::RunStepRequest {
    v1::RunStepRequest {
        component: "command".into(),
        input: b"some input".as_slice().into(),
        args: args.iter().map(|arg| arg.to_string()).collect(),
        env: [("COLOUR".to_owned(), "blue".to_owned())].into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_plain_wasi_program_gets_arguments_environment_and_standard_input() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(command(&["0", "two words"])).await.unwrap();
    let stdout = ran.output(Stream::Stdout);
    assert_eq!(stdout, "args [\"0\", \"two words\"]\nenv [(\"COLOUR\", \"blue\")]\nstdin \"some input\"\n");
    assert_eq!(ran.output(Stream::Stderr), "on standard error\n");
    assert_eq!((ran.outcome(), ran.result.exit_code), (Outcome::Succeeded, Some(0)));
    assert_eq!(ran.usage().stdio_bytes, (stdout.len() + "on standard error\n".len()) as i64);
}

#[tokio::test]
async fn a_program_that_exits_with_another_code_has_failed() {
    let daemon = Daemon::start().await;
    let ran = daemon.run(command(&["7"])).await.unwrap();
    assert_eq!(ran.outcome(), Outcome::Failed);
    assert_eq!(ran.failure().code, "NONZERO_EXIT");
    // WASI 0.2 tells success from failure and no more.
    assert_eq!(ran.result.exit_code, Some(1));
}

#[tokio::test]
async fn a_wasi_0_1_module_is_adapted_when_it_is_pushed_and_runs() {
    let daemon = Daemon::start().await;
    let module = wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\n")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
    );
    let component = daemon.push(&module.unwrap()).await.unwrap();
    assert_eq!(component.kind(), Kind::Command);
    let inspect = v1::InspectComponentRequest { name: component.name.clone() };
    assert!(daemon.components().inspect_component(inspect).await.unwrap().into_inner().adapted);
    let ran = daemon.run(v1::RunStepRequest { component: component.name, ..Default::default() }).await.unwrap();
    assert_eq!(ran.output(Stream::Stdout), "hello\n");
    assert_eq!(ran.outcome(), Outcome::Succeeded);
}

#[tokio::test]
async fn a_module_of_gos_own_compiler_is_refused_with_the_way_out() {
    let daemon = Daemon::start().await;
    let module = wat::parse_str(
        r#"(module (memory (export "memory") 1) (func (export "_start")) (@custom "go:buildid" "\ff Go build ID"))"#,
    );
    let refused = daemon.push(&module.unwrap()).await.unwrap_err();
    assert_eq!(reason(&refused), "WASM_INVALID");
    assert!(refused.message().contains("TinyGo"), "{}", refused.message());
}
