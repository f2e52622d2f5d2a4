//! Page tokens, filters and pieces.

use super::*;

fn asked(action: &str) -> QueryRecordsRequest {
    QueryRecordsRequest {
        filter: Some(proto::RecordFilter {
            action: action.to_owned(),
            ..proto::RecordFilter::default()
        }),
        ..QueryRecordsRequest::default()
    }
}

#[test]
fn a_token_leads_on_in_its_own_search_and_in_no_other() {
    let place = Cursor([("control".to_owned(), 7), ("x".to_owned(), u64::MAX)].into());
    let mut asked = asked("read");
    asked.page_token = token(place.clone(), &asked);
    assert_eq!(cursor(&asked).unwrap(), Some(place));
    asked.page_size = 9;
    assert!(cursor(&asked).is_ok());
    let other_order = QueryRecordsRequest {
        oldest_first: true,
        ..asked.clone()
    };
    let other_filter = QueryRecordsRequest {
        filter: None,
        ..asked.clone()
    };
    let mut cut = asked;
    cut.page_token.remove(0);
    for wrong in [other_order, other_filter, cut] {
        assert_eq!(cursor(&wrong).unwrap_err().field, "page_token");
    }
    assert_eq!(cursor(&QueryRecordsRequest::default()).unwrap(), None);
}

#[test]
fn a_filter_reads_back_from_its_message() {
    let whole = RecordFilter {
        principal: EntityName::parse("User::\"a\""),
        action: Some("read".to_owned()),
        resource: EntityName::parse("Doc::\"b\""),
        outcome: Some(Outcome::Deny),
        approval_id: Some("x".to_owned()),
        decision_id: Some(uuid::Uuid::nil()),
        from_us: Some(-1),
        to_us: Some(1_700_000_000_123_456),
        log: Some("control".to_owned()),
    };
    for each in [whole, RecordFilter::default()] {
        assert_eq!(filter(Some(&filter_message(&each))).unwrap(), each);
    }
    assert_eq!(filter(None).unwrap(), RecordFilter::default());
}

#[test]
fn what_cannot_be_asked_names_its_field() {
    let wrong = |set: fn(&mut proto::RecordFilter)| {
        let mut message = proto::RecordFilter::default();
        set(&mut message);
        filter(Some(&message)).unwrap_err().field
    };
    assert_eq!(
        wrong(|it| it.principal = "alice".to_owned()),
        "filter.principal"
    );
    assert_eq!(wrong(|it| it.outcome = 9), "filter.outcome");
    assert_eq!(
        wrong(|it| it.decision_id = "1".to_owned()),
        "filter.decision_id"
    );
    let never = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let message = proto::RecordFilter {
        to_time: Some(never),
        ..proto::RecordFilter::default()
    };
    assert_eq!(filter(Some(&message)).unwrap_err().field, "filter.to_time");
}

#[tokio::test]
async fn an_export_is_cut_into_pieces() {
    let (sender, mut received) = mpsc::channel(PIECES_AHEAD);
    let writing = tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces::new(sender);
        pieces.write_all(&vec![7; 3 * PIECE_BYTES]).unwrap();
        pieces.finish().unwrap();
    });
    let mut sizes = Vec::new();
    while let Some(piece) = received.recv().await {
        sizes.push(piece.unwrap().data.len());
    }
    writing.await.unwrap();
    assert_eq!(sizes, [PIECE_BYTES; 3]);
}

#[test]
fn a_page_has_a_size_of_its_own_or_the_usual_one() {
    assert_eq!(
        (page_size(0), page_size(7), page_size(9_999)),
        (100, 7, 1_000)
    );
}
