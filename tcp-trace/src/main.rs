//! Parse, run, exit. The only place that prints an error.

use std::process::ExitCode;

use clap::Parser as _;
use tcp_trace::{cli::args::Cli, confine, exit::Exit, memory, run};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing better can be done if the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let level = match cli.verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format_timestamp(None)
        .target(env_logger::Target::Pipe(Box::new(tcp_trace::top::Log)))
        .init();
    memory::bound();
    confine::begin(!cli.no_sandbox);
    match run::run(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                eprintln!("tcp-trace: error: {error:#}");
            }
            exit
        }
    }
    .into()
}
