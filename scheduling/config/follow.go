package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// DefaultEvery is how often Follow looks at its file where FollowOptions does not say.
const DefaultEvery = 2 * time.Second

// FollowOptions are the parameters of Follow; Path is required.
type FollowOptions struct {
	Path string
	// Loader reads the file; nil means the zero Loader.
	Loader *Loader
	// Every is how often the file is looked at; 0 means DefaultEvery. A look reads it, which takes some microseconds, and so
	// notices whatever can happen to a file: being written in place, renamed over, a link that leads elsewhere (the way
	// Kubernetes updates a ConfigMap), a network file system that tells nobody.
	Every time.Duration
	// Log is told of changes and problems; nil means nobody.
	Log *slog.Logger
	// OnChange is called after each change with the plan that runs now, and what was wrong with the file, if anything was:
	// then the plan is the one that ran before.
	OnChange func(running *Plan, problem error)
}

// Follow keeps a scheduler going by a file until the context ends, and returns the context's error. running is the plan that
// the scheduler goes by at the start. A file with problems, or that cannot be read, changes nothing, and is told of once.
func Follow(ctx context.Context, s *scheduling.Scheduler, running *Plan, o FollowOptions) error {
	var problems []error
	if s == nil || running == nil {
		problems = append(problems, errors.New("scheduler, running: want both"))
	}
	if o.Path == "" {
		problems = append(problems, errors.New("path: empty"))
	}
	if o.Every < 0 {
		problems = append(problems, fmt.Errorf("every %v: negative", o.Every))
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	f := &follower{FollowOptions: o, scheduler: s, running: running, seen: running.text}
	if f.Loader == nil {
		f.Loader = new(Loader)
	}
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	if f.Every == 0 {
		f.Every = DefaultEvery
	}
	ticker := time.NewTicker(f.Every)
	defer ticker.Stop()
	for {
		f.look()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

type follower struct {
	FollowOptions
	scheduler *scheduling.Scheduler
	running   *Plan
	seen      []byte // the text that was last tried, or why it could not be read
}

func (f *follower) look() {
	text, err := readFile(f.Path)
	if err != nil {
		text = []byte(err.Error())
	}
	if bytes.Equal(text, f.seen) {
		return
	}
	f.seen = text
	var next *Plan
	if err == nil {
		next, err = f.Loader.Reload(f.running, text)
	}
	if err == nil {
		err = f.scheduler.Swap(next.Options)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", f.Path, err)
		f.Log.Error("the configuration stays as it was", "error", err)
	} else {
		f.running = next
		f.Log.Info("configuration changed", "path", f.Path, "notes", next.Notes)
	}
	if f.OnChange != nil {
		f.OnChange(f.running, err)
	}
}
