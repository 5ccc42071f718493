package indexserver

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/inferloom/inferloom/kvcache/follow"
)

// listener is how the following of one rank goes.
type listener struct {
	Endpoint  string    `json:"endpoint"`
	Replay    string    `json:"replay_endpoint,omitempty"`
	Status    string    `json:"status"` // Dynamo's words: pending, active
	LastError string    `json:"last_error,omitempty"`
	LastEvent time.Time `json:"last_event,omitzero"`
	Lag       float64   `json:"lag_seconds"`
	Batches   uint64    `json:"batches"`
	Events    uint64    `json:"events"`
	Gaps      uint64    `json:"gaps"`
	Restarts  uint64    `json:"restarts"`
	Problems  []string  `json:"problems,omitempty"`
}

type workerInfo struct {
	Instance  any                 `json:"instance_id"` // a number where it was registered as one
	Source    string              `json:"source"`
	Status    string              `json:"status"`
	Model     string              `json:"model_name"`
	Group     string              `json:"routing_group"`
	BlockSize int                 `json:"block_size"`
	Endpoints map[string]string   `json:"endpoints"`
	Listeners map[string]listener `json:"listeners"`
}

func listenerOf(h *follow.Health) listener {
	l := listener{
		Endpoint: h.Engine.Endpoint, Replay: h.Engine.Replay, Status: "pending", LastEvent: h.LastEvent, Lag: h.Lag.Seconds(),
		Batches: h.Subscriber.Batches, Events: h.Subscriber.Events, Gaps: h.Subscriber.Gaps, Restarts: h.Subscriber.Restarts,
		Problems: h.Problems(),
	}
	if h.Subscriber.Connected {
		l.Status = "active"
	}
	if err := h.Subscriber.LastError; err != nil {
		l.LastError = err.Error()
	}
	return l
}

// workers lists the instances in Dynamo's form, with more about each rank.
func (s *Server) workers(w http.ResponseWriter, r *http.Request) {
	model, group := r.FormValue("model_name"), cmp.Or(r.FormValue("routing_group"), r.FormValue("tenant_id"))
	list := []*workerInfo{}
	byKey := map[[3]string]*workerInfo{}
	for _, h := range s.o.Follower.Health() {
		k := workerOf(h.Engine)
		if model != "" && k.Model != model || group != "" && k.tenant != group {
			continue
		}
		key := [3]string{k.instance, k.tenant, k.Model}
		info := byKey[key]
		if info == nil {
			info = &workerInfo{
				Instance: number(k.instance), Source: "zmq", Status: "active", Model: k.Model, Group: k.tenant, BlockSize: k.BlockTokens,
				Endpoints: map[string]string{}, Listeners: map[string]listener{},
			}
			byKey[key] = info
			list = append(list, info)
		}
		rank, l := strconv.Itoa(k.Rank), listenerOf(&h)
		info.Endpoints[rank], info.Listeners[rank] = k.Endpoint, l
		if l.Status == "pending" {
			info.Status = l.Status
		}
	}
	answer(w, http.StatusOK, list)
}

// number is the instance as Dynamo writes it, if it is one of its numbers.
func number(instance string) any {
	if n, err := strconv.ParseUint(instance, 10, 64); err == nil && strconv.FormatUint(n, 10) == instance {
		return n
	}
	return instance
}
