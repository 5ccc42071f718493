package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/internal/workload"
)

// answer is what a client sees of a streamed answer.
type answer struct {
	first, last time.Time // when the first token and the latest arrived
	text        []byte
	usage       struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		Details          struct {
			CachedTokens int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	}
}

// appendMessages appends the messages of a turn to those of its conversation, as JSON separated by commas. The texts of a
// workload need no escapes.
func appendMessages(dst []byte, messages []workload.Message) []byte {
	for _, m := range messages {
		dst = openMessage(dst, m.Role)
		dst = m.AppendText(dst)
		dst = append(dst, `"}`...)
	}
	return dst
}

// appendAnswer appends an answer to its conversation.
func appendAnswer(dst, text []byte) []byte {
	dst = openMessage(dst, "assistant")
	escaped, _ := json.Marshal(string(text)) // a string cannot fail
	dst = append(dst[:len(dst)-1], escaped...)
	return append(dst, '}')
}

func openMessage(dst []byte, role string) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	dst = append(dst, `{"role":"`...)
	dst = append(dst, role...)
	return append(dst, `","content":"`...)
}

// requestBody is a streaming chat completion over a conversation.
func requestBody(conversation []byte, maxTokens int) []byte {
	b := make([]byte, 0, len(conversation)+160)
	b = append(b, `{"model":"`+model+`","stream":true,"stream_options":{"include_usage":true},"max_tokens":`...)
	b = strconv.AppendInt(b, int64(maxTokens), 10)
	b = append(b, `,"messages":[`...)
	b = append(b, conversation...)
	return append(b, "]}"...)
}

// chat sends a request and reads its answer to the end.
func chat(ctx context.Context, client *http.Client, url string, body []byte) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return nil, fmt.Errorf("status %d: %s", resp.StatusCode, bytes.TrimSpace(message))
	}
	var a answer
	return &a, a.read(resp.Body)
}

// read reads the server-sent events of an answer.
func (a *answer) read(body io.Reader) error {
	lines := bufio.NewReaderSize(body, 16<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return errors.New("the stream ended before [DONE]")
		}
		if err != nil {
			return fmt.Errorf("reading the stream: %w", err)
		}
		data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			// To the end, so that the connection can be used again.
			_, err = io.Copy(io.Discard, lines)
			return err
		}
		if err := a.event(data); err != nil {
			return err
		}
	}
}

func (a *answer) event(data []byte) error {
	var e struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Usage json.RawMessage `json:"usage"`
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("event of the stream: %w", err)
	}
	if len(e.Error) > 0 {
		return fmt.Errorf("error in the stream: %s", e.Error)
	}
	if len(e.Usage) > 0 && string(e.Usage) != "null" {
		if err := json.Unmarshal(e.Usage, &a.usage); err != nil {
			return fmt.Errorf("usage: %w", err)
		}
	}
	if len(e.Choices) == 0 || e.Choices[0].Delta.Content == "" {
		return nil
	}
	a.last = time.Now()
	if a.first.IsZero() {
		a.first = a.last
	}
	a.text = append(a.text, e.Choices[0].Delta.Content...)
	return nil
}
