package api

import "cloudengine/events"

// shown gives the events of a dry run as its user may see them: users of an account are not told of the platform.
func (s *Service) shown(actor string, list []events.Event) []events.Event {
	if len(list) == 0 {
		return list
	}
	if u, ok := s.cfg.Users.User(actor); ok && u.Account == "" {
		return list
	}
	out := make([]events.Event, len(list))
	for i, e := range list {
		e.Data = events.ForAccounts(e.Data)
		out[i] = e
	}
	return out
}
