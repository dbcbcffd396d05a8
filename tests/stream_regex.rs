//! Reading up to a match.
#![cfg(feature = "regex")]

mod stream_support;
mod support;

use regex::bytes::Regex;
use ringloop::net::StreamError;
use std::time::Duration;
use stream_support::{refusal, run, send, stream};
use support::new_loop;

#[test]
fn read_until_regex_returns_up_to_the_end_of_the_first_match() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let blank = Regex::new(r"\r?\n\r?\n").unwrap();
    send(&peer, "head: 1\r\n\r\nbody\n\nmore");
    run(&io_loop, async || {
        assert_eq!(stream.read_until_regex(&blank, 100).await.unwrap(), b"head: 1\r\n\r\n");
        assert_eq!(stream.read_until_regex(&blank, 100).await.unwrap(), b"body\n\n");
        assert_eq!(stream.read_bytes(4).await.unwrap(), b"more");
    });
}

#[test]
fn a_match_may_come_in_several_pieces() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let end = Regex::new("e+n+d").unwrap();
    run(&io_loop, async || {
        let reading = stream.read_until_regex(&end, 100);
        let writing = async {
            for byte in b"text eennd rest" {
                send(&peer, [*byte]);
                ringloop::time::sleep(Duration::from_micros(20)).await;
            }
        };
        let (text, ()) = futures::join!(reading, writing);
        assert_eq!(text.unwrap(), b"text eennd");
        assert_eq!(stream.read_bytes(5).await.unwrap(), b" rest");
    });
}

#[test]
fn a_match_that_ends_beyond_the_limit_is_refused_and_the_bytes_stay() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let digits = Regex::new("[0-9]").unwrap();
    send(&peer, "abc4");
    run(&io_loop, async || {
        assert_eq!(refusal(stream.read_until_regex(&digits, 3).await), StreamError::ReadLimit(3));
        assert_eq!(stream.read_until_regex(&digits, 4).await.unwrap(), b"abc4");
        drop(peer);
        assert_eq!(refusal(stream.read_until_regex(&digits, 9).await), StreamError::Ended);
    });
}

#[test]
fn a_match_within_the_limit_is_found_whatever_follows() {
    let io_loop = new_loop();
    let (stream, peer) = stream();
    let digits = Regex::new("[0-9]+").unwrap();
    send(&peer, "abc45 and a great deal more");
    run(&io_loop, async || {
        assert_eq!(stream.read_until_regex(&digits, 5).await.unwrap(), b"abc45");
        assert_eq!(stream.read_bytes(4).await.unwrap(), b" and");
    });
}
