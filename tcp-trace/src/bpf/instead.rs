//! The program that the main ones go on with while transitions are aggregated: loaded when they are at work already,
//! because the verifier takes longer over it than over both of them, and most runs never need it.

use anyhow::{Context as _, anyhow};
use aya::{
    Btf, Ebpf,
    maps::{MapData, ProgramArray},
    programs::BtfTracePoint,
};

use super::loading::{load_failure, program};

pub(super) const NAME: &str = "aggregate_state";

/// What is needed to load it.
#[expect(missing_debug_implementations, reason = "aya's objects have none")]
pub struct Instead {
    object: Ebpf,
    btf: Btf,
}

/// It is where the main programs find it, as long as this lives: the kernel empties a table of programs when its last
/// descriptor is closed (`prog_array_map_clear`, `kernel/bpf/arraymap.c`).
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct InPlace {
    _places: ProgramArray<MapData>,
    /// The programs and maps, so that whoever looks at this process sees what is its.
    _object: Option<Ebpf>,
}

impl Instead {
    pub(super) fn new(object: Ebpf, btf: Btf) -> Self {
        Self { object, btf }
    }

    /// Loads it, and puts it where the main programs find it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub fn load(self) -> anyhow::Result<InPlace> {
        let Self { mut object, btf } = self;
        let in_place = load(&mut object, &btf)?;
        Ok(InPlace { _object: Some(object), ..in_place })
    }
}

/// Loads it, and puts it where the main programs of the object find it.
pub(super) fn load(object: &mut Ebpf, btf: &Btf) -> anyhow::Result<InPlace> {
    let places = object.take_map("INSTEAD").context("the eBPF object has no map INSTEAD")?;
    let mut places = ProgramArray::try_from(places)?;
    let program: &mut BtfTracePoint = program(object, NAME)?;
    program.load("inet_sock_set_state", btf).map_err(|error| anyhow!(load_failure(&error)))?;
    places.set(0, program.fd()?, 0).with_context(|| format!("putting {NAME} in its place"))?;
    Ok(InPlace { _places: places, _object: None })
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::super::loading::OBJECT;
    use super::NAME;

    /// `call 12`, which is `bpf_tail_call` (`include/uapi/linux/bpf.h`).
    const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

    #[test]
    fn a_program_that_is_jumped_to_contains_a_jump() {
        if OBJECT.is_empty() {
            return;
        }
        // Or else the kernel would let two runs of it share one stack.
        let file = object::File::parse(OBJECT).unwrap();
        let symbol = file.symbol_by_name(NAME).unwrap();
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        let code = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
        assert!(code.chunks_exact(8).any(|instruction| instruction == TAIL_CALL));
    }
}
