//! The chores of this repository, one command per file: `cargo xtask --help`.
//!
//! Whatever CI does is `cargo xtask ci`, so that it can be done, and understood, on any machine.

mod bench;
mod ci;
mod crosscheck;
mod dependencies;
mod e2e;
mod ebpf;
mod fuzz;
mod miri;
mod msrv;
/// The very files that `tcp-trace/build.rs` uses, so that both make the same object.
#[path = "../../tcp-trace/build/ebpf.rs"]
mod object;
mod privilege;
mod process;
mod progress;
mod run;
mod sanitize;
mod setup;
mod strip;
mod test;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The chores of this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Chore {
    /// Install what is needed to compile the eBPF object and to run virtual machines, as far as it is not there.
    Setup,
    /// Make the committed eBPF object anew from its sources.
    Ebpf(ebpf::Args),
    /// Build the program in release mode and run it, as root through sudo if need be.
    Run(run::Args),
    /// Run every test, those on the live kernel included.
    Test(test::Args),
    /// Measure the program beside other tools and beside the least that the kernel permits; needs root.
    Bench(bench::Args),
    /// Run the agent at full churn for an hour with every exporter at work, one of them failing; needs root.
    Soak(bench::SoakArgs),
    /// Hold the program against others that look at TCP, and let it watch others that use it; needs root.
    Crosscheck(crosscheck::Args),
    /// Run the live tests on other kernels, in virtual machines.
    Vm(vm::Args),
    /// Run the agent against real collectors, databases and clusters: by hand, because they take minutes to build.
    E2e(e2e::Args),
    /// Check the rules of the house that no lint of the compiler holds: fences, lengths, links.
    Tidy,
    /// Check what other people's code comes in: licences, sources, known faults, and whether it is used.
    Dependencies,
    /// Run every parser on any bytes whatever, for a minute each.
    Fuzz(fuzz::Args),
    /// Run the tests of the pure crates in Miri, where there is one.
    Miri(miri::Args),
    /// Run tests under AddressSanitizer.
    Sanitize(sanitize::Args),
    /// Do everything that CI does.
    Ci,
}

fn main() -> ExitCode {
    if let Some(compiled) = fuzz::compile() {
        return compiled;
    }
    let done = match Chore::parse() {
        Chore::Setup => setup::run(),
        Chore::Ebpf(args) => ebpf::run(&args),
        Chore::Run(args) => run::run(&args),
        Chore::Test(args) => test::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Soak(args) => bench::soak(&args),
        Chore::Crosscheck(args) => crosscheck::run(&args),
        Chore::Vm(args) => vm::run(&args),
        Chore::E2e(args) => e2e::run(&args),
        Chore::Tidy => tidy::run(),
        Chore::Dependencies => dependencies::run(),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Miri(args) => miri::run(&args),
        Chore::Sanitize(args) => sanitize::run(&args),
        Chore::Ci => ci::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
