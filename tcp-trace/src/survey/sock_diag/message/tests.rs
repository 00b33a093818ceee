use proptest::prelude::*;

use super::*;

const NETNS: u32 = 4_026_531_840;

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute_bytes(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap();
    padded([&length.to_ne_bytes(), &kind.to_ne_bytes(), payload].concat())
}

fn message_bytes(kind: u16, flags: u16, sequence: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(size_of::<Header>() + content.len()).unwrap();
    let header = Header {
        length: length.into(),
        kind: kind.into(),
        flags: flags.into(),
        sequence: sequence.into(),
        port: ne::U32::ZERO,
    };
    padded([header.as_bytes(), content].concat())
}

fn socket(state: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut id = SocketId {
        local_port: 80.into(),
        peer_port: 4000.into(),
        cookie: [5.into(), 1.into()],
        ..SocketId::default()
    };
    id.local[..4].copy_from_slice(&[198, 18, 0, 1]);
    id.peer[..4].copy_from_slice(&[198, 18, 7, 1]);
    let socket = Socket {
        family: 2,
        state,
        timer: 1,
        retransmits: 2,
        id,
        expires_ms: 3.into(),
        receive_queue: 4.into(),
        send_queue: 5.into(),
        uid: 1000.into(),
        inode: 6.into(),
    };
    let content = [socket.as_bytes(), &attributes.concat()].concat();
    message_bytes(diag::SOCK_DIAG_BY_FAMILY, 2, 1, &content)
}

fn info_bytes() -> Vec<u8> {
    // 232 bytes are what Linux 5.10 sends: each u32 is its own offset.
    (0..58_u32).flat_map(|word| (word * 4).to_ne_bytes()).collect()
}

fn read(bytes: &[u8]) -> (io::Result<bool>, Vec<SocketRow>, bool) {
    let (mut reader, mut rows) = (Reader::new(1, NETNS), Vec::new());
    let done = reader.read(bytes, &mut rows);
    (done, rows, reader.is_complete())
}

#[test]
fn a_socket_is_read_with_its_attributes() {
    let attributes = [
        attribute_bytes(diag::SHUTDOWN, &[0]),
        attribute_bytes(99, b"what a newer kernel adds"),
        attribute_bytes(diag::CGROUP_ID, &77_u64.to_ne_bytes()),
        attribute_bytes(diag::INFO, &info_bytes()),
    ];
    let (done, rows, complete) = read(&socket(8, &attributes));
    assert!(!done.unwrap() && complete);
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(row.cookie.get(), 5 | 1 << 32);
    assert_eq!(
        (row.local.to_string(), row.peer.to_string()),
        ("198.18.0.1:80".into(), "198.18.7.1:4000".into())
    );
    assert_eq!((row.netns, row.state, row.family), (NETNS, TcpState::CloseWait, 2));
    assert_eq!((row.inode, row.cgroup_id, row.uid), (Some(6), Some(77), 1000));
    assert_eq!((row.timer, row.retransmits, row.expires_ms), (Timer::Retransmit, 2, 3));
    assert_eq!((row.receive_queue, row.send_queue), (4, 5));
    let info = row.info.unwrap();
    let times = (info.last_data_sent_ms, info.last_data_received_ms, info.last_ack_received_ms);
    assert_eq!((times, info.srtt_us, info.total_retrans), ((44, 52, 56), 68, 100));
    assert_eq!((info.bytes_acked & 0xffff, info.bytes_received & 0xffff), (120, 128));
    assert_eq!((info.segments_in, info.data_segments_in, info.data_segments_out), (140, 152, 156));
}

#[test]
fn a_request_has_no_shutdown_attribute() {
    let shutdown = attribute_bytes(diag::SHUTDOWN, &[0]);
    assert_eq!(read(&socket(3, &[])).1[0].state, TcpState::NewSynReceived);
    assert_eq!(read(&socket(3, &[shutdown])).1[0].state, TcpState::SynReceived);
    assert_eq!(read(&socket(5, &[])).1[0].state, TcpState::FinWait2, "a time-wait socket has none either");
}

#[test]
fn a_listener_has_no_times() {
    let shutdown = attribute_bytes(diag::SHUTDOWN, &[0]);
    assert_eq!(read(&socket(10, &[shutdown, attribute_bytes(diag::INFO, &info_bytes())])).1[0].info, None);
}

#[test]
fn v4_mapped_addresses_are_ipv4() {
    let mut bytes = socket(1, &[]);
    bytes[16] = 10;
    bytes[24..40].copy_from_slice(&Ipv4Addr::new(198, 18, 0, 9).to_ipv6_mapped().octets());
    let row = &read(&bytes).1[0];
    assert_eq!((row.local.to_string(), row.family), ("198.18.0.9:80".to_owned(), 10));
}

#[test]
fn the_end_is_recognised() {
    let done = message_bytes(netlink::DONE, 2, 1, &0_i32.to_ne_bytes());
    let (ended, rows, complete) = read(&[socket(1, &[]), done.clone()].concat());
    assert!(ended.unwrap() && complete && rows.len() == 1);
    let of_another = message_bytes(netlink::DONE, 2, 7, &0_i32.to_ne_bytes());
    assert!(!read(&of_another).0.unwrap());
    let interrupted = message_bytes(netlink::DONE, 2 | netlink::F_DUMP_INTR, 1, &0_i32.to_ne_bytes());
    let (ended, _, complete) = read(&interrupted);
    assert!(ended.unwrap() && !complete);
}

#[test]
fn errors_are_the_kernels_own() {
    for kind in [netlink::ERROR, netlink::DONE] {
        let (error, ..) = read(&message_bytes(kind, 0, 1, &(-2_i32).to_ne_bytes()));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    assert!(read(&message_bytes(netlink::OVERRUN, 0, 1, &[])).0.is_err());
    assert!(read(&message_bytes(99, 0, 1, &[])).0.is_err());
    assert!(read(&message_bytes(netlink::ERROR, 0, 1, &i32::MIN.to_ne_bytes())).0.is_err());
}

#[test]
fn a_socket_without_a_cookie_makes_the_answer_incomplete() {
    let mut bytes = socket(1, &[]);
    bytes[60..68].fill(0);
    let (done, rows, complete) = read(&bytes);
    assert!(!done.unwrap() && rows.is_empty() && !complete);
}

#[test]
fn what_is_cut_off_anywhere_gives_no_wrong_row() {
    let attributes = [attribute_bytes(diag::SHUTDOWN, &[0]), attribute_bytes(diag::INFO, &info_bytes())];
    let whole = socket(8, &attributes);
    for length in 0..whole.len() {
        let (_, rows, _) = read(&whole[..length]);
        assert!(rows.is_empty(), "{length} bytes");
    }
    // A message that is whole, about a socket that is not.
    for length in 0..72 {
        let content = &whole[16..16 + length];
        let (done, rows, complete) = read(&message_bytes(diag::SOCK_DIAG_BY_FAMILY, 2, 1, content));
        assert!(!done.unwrap() && rows.is_empty() && !complete, "{length} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let _ = read(&bytes);
    }

    #[test]
    fn nor_do_answers_with_bytes_changed(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let attributes = [attribute_bytes(diag::SHUTDOWN, &[0]), attribute_bytes(diag::INFO, &info_bytes())];
        let mut bytes = [socket(8, &attributes), socket(3, &[])].concat();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let (_, rows, _) = read(&bytes);
        prop_assert!(rows.len() <= bytes.len() / size_of::<Socket>());
    }
}

#[test]
fn what_a_listener_has_turned_away_is_the_ninth_number() {
    let memory: Vec<u8> = (1..=9_u32).flat_map(u32::to_ne_bytes).collect();
    let drops = |state, payload: &[u8]| {
        let (mut reader, mut rows) = (Reader::new(1, NETNS), Vec::new());
        reader.read(&socket(state, &[attribute_bytes(diag::MEMORY, payload)]), &mut rows).unwrap();
        assert_eq!(rows.len(), 1);
        reader.into_drops().iter().map(|facts| facts.drops).collect::<Vec<_>>()
    };
    assert_eq!(drops(10, &memory), [9]);
    assert_eq!(drops(10, &memory[..32]), [0; 0], "an older kernel");
    assert_eq!(drops(1, &memory), [0; 0], "no listener");
}
