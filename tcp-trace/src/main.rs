//! Parse, run, exit. The only place that prints an error.

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use tcp_trace::{cli::args::Cli, confine, exit::Exit, memory, run};
use tcp_trace_core::process::printable_lines;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                // What was given stands in it as it was given.
                let _ = write!(std::io::stderr(), "{}", printable_lines(&error.render().to_string()));
                return Exit::Usage.into();
            }
            // Nothing better can be done if the terminal is gone.
            let _ = error.print();
            return Exit::Done.into();
        }
    };
    let level = match cli.verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|out, record| {
            let (level, target) = (record.level(), record.target());
            let text = record.args().to_string();
            writeln!(out, "[{level:<5} {target}] {}", printable_lines(&text))
        })
        .target(env_logger::Target::Pipe(Box::new(tcp_trace::top::Log)))
        .init();
    memory::bound();
    confine::begin(!cli.no_sandbox);
    match run::run(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                tcp_trace::say!("tcp-trace: error: {}", printable_lines(&format!("{error:#}")));
            }
            exit
        }
    }
    .into()
}
