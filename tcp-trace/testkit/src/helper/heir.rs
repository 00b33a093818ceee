//! The `heir` role: a server whose forked child inherits its connections and never uses them.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

use super::line::Line;
use super::owners::fork;
use super::role::say;
use crate::sock::{self, ListenOptions};

pub(super) fn run(arguments: &Line) -> io::Result<()> {
    let count: usize = arguments.value("count")?;
    let heir = arguments.get("heir").unwrap_or("heir");
    let listener = sock::listen(arguments.value("listen")?, &ListenOptions::default())?;
    say("listening", &[("addr", &listener.local_addr()?)])?;
    let mut served: Vec<TcpStream> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = listener.accept()?.0;
        if stream.read(&mut [0; 1024])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        served.push(stream);
    }
    // What the child's work owns it alone has from then on.
    let child = fork(heir, move || {
        let _unused = served;
        loop {
            std::thread::sleep(Duration::from_secs(3_600));
        }
    })?;
    say("forked", &[("pid", &child.pid())])?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
