// Sends orders of a system of your own to POST /events/batch. Sent again, they are answered `duplicate`.
//
// URL=http://127.0.0.1:8080 TOKEN=... go run send_batch.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

type item struct {
	SKU   string      `json:"sku"`
	Qty   int         `json:"qty"`
	Price json.Number `json:"price"`
}

type event struct {
	EventType   string      `json:"event_type"`
	EventID     string      `json:"event_id"` // yours, and the same whenever this event is sent
	Timestamp   time.Time   `json:"timestamp"`
	OrderID     string      `json:"order_id"`
	CustomerID  *string     `json:"customer_id"`
	TotalAmount json.Number `json:"total_amount"` // exact digits, where a float64 has none
	Currency    string      `json:"currency"`
	Items       []item      `json:"items"`
}

func main() {
	body, err := json.Marshal([]event{{
		EventType:   "order.created",
		EventID:     "go-1001",
		Timestamp:   time.Date(2026, 1, 31, 9, 0, 0, 0, time.FixedZone("", 3600)),
		OrderID:     "1001",
		TotalAmount: "24.90",
		Currency:    "EUR",
		Items:       []item{{SKU: "TEA-50", Qty: 2, Price: "12.45"}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	request, err := http.NewRequest("POST", os.Getenv("URL")+"/events/batch", bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 30 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	if response.StatusCode != http.StatusOK { // 422: none is valid; 503: send it again after Retry-After seconds
		log.Fatalf("%s: %s", response.Status, text)
	}
	var answer struct {
		Results []struct {
			EventID string `json:"event_id"`
			Status  string `json:"status"`
		} `json:"results"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		log.Fatal(err)
	}
	for _, result := range answer.Results {
		fmt.Println(result.EventID, result.Status)
	}
}
