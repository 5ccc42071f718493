package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Features are what the predictor goes by, in its JSON.
type Features struct {
	KVCache       float64 `json:"kv_cache_percentage"` // 0 to 1
	InputTokens   int     `json:"input_token_length"`
	Waiting       int     `json:"num_request_waiting"`
	Running       int     `json:"num_request_running"`
	Generated     int     `json:"num_tokens_generated"`
	PrefixScore   float64 `json:"prefix_cache_score"` // 0 to 1
	EncoderInput  int     `json:"encoder_input_size"`
	EncoderCached int     `json:"encoder_matched_size"`
	PodType       string  `json:"pod_type"` // prefill, decode or empty
	PrefillTokens int     `json:"prefill_tokens_in_flight"`
	DecodeTokens  int     `json:"decode_tokens_in_flight"`
}

// Entry is one observation. A time that is 0 was not observed.
type Entry struct {
	Features
	TTFT float64   `json:"actual_ttft_ms"`
	TPOT float64   `json:"actual_tpot_ms"`
	At   time.Time `json:"timestamp"`
}

// Answer is a prediction, in milliseconds.
type Answer struct {
	TTFT     float64 `json:"ttft_ms"`
	TPOT     float64 `json:"tpot_ms"`
	Quantile float64 `json:"quantile"`
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

// predict asks for predictions of rows, in their order.
func predict(ctx context.Context, client *http.Client, server string, rows []Features) ([]Answer, error) {
	var got struct {
		Predictions []Answer `json:"predictions"`
	}
	err := post(ctx, client, server, "/predict/bulk/strict", struct {
		Requests []Features `json:"requests"`
	}{rows}, &got)
	if err == nil && len(got.Predictions) != len(rows) {
		err = fmt.Errorf("%s: %d predictions for %d requests", server, len(got.Predictions), len(rows))
	}
	return got.Predictions, err
}

// train sends observations.
func train(ctx context.Context, client *http.Client, server string, entries []Entry) error {
	return post(ctx, client, server, "/add_training_data_bulk", struct {
		Entries []Entry `json:"entries"`
	}{entries}, nil)
}

// post sends JSON and reads some, unless answer is nil.
func post(ctx context.Context, client *http.Client, server, path string, body, answer any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(server, "/")+path, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s%s: %w", server, path, err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s%s: status %d: %.200s", server, path, response.StatusCode, read)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(read, answer); err != nil {
		return fmt.Errorf("%s%s: %w", server, path, err)
	}
	return nil
}
