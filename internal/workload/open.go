package workload

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/inferloom/inferloom/gateway/record"
)

// Format is a format of traces.
type Format string

// The formats that Open and Read know.
const (
	MooncakeFormat Format = "mooncake"
	AzureFormat    Format = "azure"
	BurstGPTFormat Format = "burstgpt"
	ServeGenFormat Format = "servegen"
	RecordFormat   Format = "record"
)

// Open returns the requests of a trace in any of the formats, which it tells from the content: a file, compressed with
// gzip or not, or the folder of a ServeGen model. It reads as much as it needs for that; each iteration of the source
// opens the file again. An error names the path and the line. A trace without a single request is an error.
func Open(path string) (Source, Format, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		source, err := ServeGen(path, ServeGenOptions{})
		return source, ServeGenFormat, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	source, format, err := Read(f)
	if err != nil {
		f.Close()
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if !info.Mode().IsRegular() { // a pipe cannot be opened again
		return closing(source, f), format, nil
	}
	f.Close()
	return func(yield func(Request, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(Request{}, err)
			return
		}
		defer f.Close()
		source, _, err := Read(f)
		if err != nil {
			yield(Request{}, fmt.Errorf("%s: %w", path, err))
			return
		}
		for r, err := range source {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(r, err) {
				return
			}
		}
	}, format, nil
}

func closing(source Source, c io.Closer) Source {
	return func(yield func(Request, error) bool) {
		defer c.Close()
		source(yield)
	}
}

// headBytes is how much of a trace is looked at to tell its format.
const headBytes = 64 << 10

// Read returns the requests of a trace that can be read once, in any of the formats but ServeGen's.
func Read(r io.Reader) (Source, Format, error) {
	b := bufio.NewReaderSize(r, headBytes)
	if magic, _ := b.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, "", fmt.Errorf("gzip: %w", err)
		}
		b = bufio.NewReaderSize(z, headBytes)
	}
	if mark, _ := b.Peek(3); string(mark) == "\ufeff" {
		b.Discard(len(mark)) // they are there
	}
	head, err := b.Peek(headBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	format, err := detect(head)
	if err != nil {
		return nil, "", err
	}
	readers := map[Format]func(io.Reader) Source{
		MooncakeFormat: Mooncake, AzureFormat: Azure, BurstGPTFormat: BurstGPT, RecordFormat: Recorded,
	}
	return notEmpty(readers[format](b)), format, nil
}

// detect tells a format from the beginning of a trace.
func detect(head []byte) (Format, error) {
	line := bytes.TrimSpace(head)
	if len(line) == 0 {
		return "", errors.New("the trace is empty")
	}
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = bytes.TrimSpace(line[:end])
	}
	has := func(names ...string) bool {
		for _, name := range names {
			if !strings.Contains(strings.ToLower(string(line)), name) {
				return false
			}
		}
		return true
	}
	switch {
	case line[0] == '{' && record.IsHeader(line):
		return RecordFormat, nil
	case line[0] == '{' && has(`"timestamp"`, `"input_length"`):
		return MooncakeFormat, nil
	case has("timestamp", "contexttokens"):
		return AzureFormat, nil
	case has("timestamp", "request tokens"):
		return BurstGPTFormat, nil
	case has(",gamma,") || has(",weibull,") || has(",,0,0"):
		return "", errors.New("this is one client of a ServeGen model: name the folder with all of them")
	}
	return "", fmt.Errorf("line 1: no trace in a format of Mooncake, Azure, BurstGPT, ServeGen or a gateway's recorder begins with %.60q", line)
}

// notEmpty makes an error of a source without a request.
func notEmpty(source Source) Source {
	return func(yield func(Request, error) bool) {
		some := false
		for r, err := range source {
			some = true
			if !yield(r, err) {
				return
			}
		}
		if !some {
			yield(Request{}, errors.New("no request in the trace"))
		}
	}
}
