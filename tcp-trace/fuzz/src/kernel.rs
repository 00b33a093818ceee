//! What the kernel writes: BTF and answers of `sock_diag`.

use tcp_trace::{
    bpf::{
        btf::{Btf, Member},
        layout,
    },
    survey::sock_diag::message::Reader,
};
use tcp_trace_core::{
    survey::{decode_sockets, encode_sockets},
    time::Timestamp,
};

/// A blob of BTF: what the program looks up in it, and the outline that aya is given.
pub fn btf(data: &[u8]) {
    let Ok(btf) = Btf::parse(data) else { return };
    let [one, two, three] = btf.members(["a.x", "a.y", "a.z.w"]);
    for Member { offset, bits, .. } in [one, two, three].into_iter().flatten() {
        // A bit field begins in the byte that is its offset.
        assert!(bits.is_none_or(|(first, width)| width > 0 && first / 8 >= offset));
    }
    let (found, offsets) = (layout::found(&btf), layout::offsets(&btf));
    assert!(offsets.is_err() || found.iter().any(|(_, member)| member.is_some()));
    let arguments = btf.prototype_len("t");
    let again = btf.outline();
    let outline = Btf::parse(&again).expect("an outline is BTF");
    assert_eq!(outline.outline(), again, "an outline has nothing that can be left out");
    // Functions without parameters are all that is left of prototypes.
    assert!(outline.prototype_len("t").is_none_or(|count| count == 0 && arguments.is_some()));
}

/// Datagrams of an answer, each behind its length.
pub fn netlink(data: &[u8]) {
    let mut reader = Reader::new(1, 7);
    let mut rows = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        let before = rows.len();
        let ended = reader.read(datagram, &mut rows);
        // A header and a socket are what the least row takes.
        assert!((rows.len() - before) * (16 + 72) <= datagram.len());
        if !matches!(ended, Ok(false)) {
            break;
        }
    }
    assert!(rows.iter().all(|row| row.netns == 7));
    let bytes = encode_sockets(Timestamp(9), &rows);
    assert_eq!(decode_sockets(&bytes), Some((Timestamp(9), rows)), "what was listed survives a recording");
    let _ = reader.is_complete();
    assert!(reader.into_drops().len() * (16 + 72) <= data.len());
}
