//! Row 3: requests for other hosts.

use understudy_tests::oracle;

use super::wire::{Wire, exchange, is_well, node};

#[tokio::test(flavor = "multi_thread")]
async fn row_3_a_request_for_another_host_is_not_served() {
    let node = node(&[
        ("HTTP_HOSTS", "shop.example,127.0.0.1"),
        ("HTTP_EXTERNAL_URL", "https://shop.example"),
    ])
    .await;
    let mut led_astray = 0;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: shop.example\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: SHOP.example:8443\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: evil.test\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: shop.example.evil.test\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: evil.test\r\nX-Forwarded-Host: shop.example\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: shop.example\r\nHost: evil.test\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: shop.example\r\nHost: shop.example\r\n", 400),
        ("GET http://evil.test/ HTTP/1.1\r\nHost: shop.example\r\n", 400),
        ("GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: shop.example/../evil.test\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@evil.test\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: shop.example:evil\r\n", 400),
        ("GET / HTTP/1.1\r\n", 400),
    ] {
        let request = format!("{request}Connection: close\r\n\r\n");
        let answers = exchange(&node, &request).await;
        assert_eq!(answers.len(), 1, "{request}");
        assert_eq!(answers[0].status, status, "{request}: {answers:?}");
        let told = format!("{}{}", answers[0].head, answers[0].body);
        led_astray += usize::from(told.contains("evil"));
    }
    oracle!("answers that name the other host", led_astray, 0);
    is_well(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_3_health_is_told_to_balancers_that_know_no_name() {
    let node = node(&[("HTTP_HOSTS", "shop.example")]).await;
    let mut wire = Wire::to(&node).await;
    wire.send("GET /health/ready HTTP/1.1\r\nHost: 10.1.2.3:8080\r\n\r\n").await;
    assert_eq!(wire.answer().await.expect("an answer").status, 200);
    wire.send("GET / HTTP/1.1\r\nHost: 10.1.2.3:8080\r\n\r\n").await;
    assert_eq!(wire.answer().await.expect("an answer").status, 421);
}
