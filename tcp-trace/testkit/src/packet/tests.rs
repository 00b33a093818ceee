use super::*;

fn segment(src: &str, dst: &str) -> Segment {
    Segment {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        seq: 0xffff_fff0,
        ack: 7,
        flags: Flags::SYN | Flags::ACK,
        window: 64_000,
        options: TcpOptions::default(),
        payload: b"odd".to_vec(),
    }
}

fn all_options() -> TcpOptions {
    TcpOptions {
        mss: Some(1460),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 0xdead_beef, echo: 1 }),
        window_scale: Some(7),
        fastopen: Some(vec![1, 2, 3, 4, 5, 6, 7, 8]),
    }
}

#[test]
fn round_trip_with_every_option_and_flag() {
    for (src, dst) in [("198.18.7.1:4000", "198.18.0.1:7001"), ("[2001:db8::7]:65535", "[2001:db8::1]:1")] {
        for flags in [Flags::SYN, Flags::FIN_ACK, Flags::RST, Flags::PSH | Flags::ACK | Flags::URG] {
            for options in
                [TcpOptions::default(), all_options(), TcpOptions { fastopen: Some(vec![]), ..all_options() }]
            {
                let sent = Segment { flags, options, ..segment(src, dst) };
                assert_eq!(Segment::parse(&sent.to_bytes().unwrap()), Ok(sent));
            }
        }
    }
}

#[test]
fn a_flipped_bit_fails_the_checksum() {
    for (src, dst) in [("198.18.7.1:4000", "198.18.0.1:7001"), ("[2001:db8::7]:9", "[2001:db8::1]:1")] {
        let mut bytes = segment(src, dst).to_bytes().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(Segment::parse(&bytes), Err(ParseError::Checksum { .. })));
    }
}

#[test]
fn checksum_of_a_known_packet() {
    // 127.0.0.1:1 > 127.0.0.1:2 SYN, seq 0, window 0, no data: pseudo header and header summed by hand.
    let known = Segment {
        src: "127.0.0.1:1".parse().unwrap(),
        dst: "127.0.0.1:2".parse().unwrap(),
        seq: 0,
        ack: 0,
        flags: Flags::SYN,
        window: 0,
        options: TcpOptions::default(),
        payload: vec![],
    };
    let sum: u32 = 0x7f00 + 0x0001 + 0x7f00 + 0x0001 + 6 + 20 + 1 + 2 + 0x5002;
    let folded = (sum & 0xffff) + (sum >> 16);
    let bytes = known.to_bytes().unwrap();
    assert_eq!(u16::from_be_bytes([bytes[36], bytes[37]]), !(folded as u16));
}

#[test]
fn other_packets_are_refused() {
    assert!(matches!(Segment::parse(&[]), Err(ParseError::Malformed(_))));
    let mut udp = segment("198.18.7.1:4000", "198.18.0.1:7001").to_bytes().unwrap();
    udp[9] = 17;
    assert!(Segment::parse(&udp).is_err());
    let whole = segment("198.18.7.1:4000", "198.18.0.1:7001").to_bytes().unwrap();
    assert!(Segment::parse(&whole[..30]).is_err());
    assert_eq!(TcpOptions::decode(&[kind::MSS, 1]), None);
    assert_eq!(TcpOptions::decode(&[kind::MSS, 4, 5]), None);
}

#[test]
fn mixed_versions_and_oversized_options_are_errors() {
    assert!(segment("198.18.7.1:4000", "[2001:db8::1]:1").to_bytes().is_err());
    let options = TcpOptions { fastopen: Some(vec![0; 39]), ..TcpOptions::default() };
    assert!(Segment { options, ..segment("1.1.1.1:1", "1.1.1.2:2") }.to_bytes().is_err());
}

#[test]
fn sequence_length_counts_syn_and_fin() {
    let all = Segment { flags: Flags::SYN | Flags::FIN, ..segment("1.1.1.1:1", "1.1.1.2:2") };
    assert_eq!(all.sequence_len(), 5);
    assert_eq!(format!("{:?} {:?}", Flags::SYN_ACK, Flags::NONE), "SYN|ACK none");
}
