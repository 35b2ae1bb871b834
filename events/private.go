package events

// ForAccounts gives what a user of one account may see of an event of an object that is the account's: nothing that tells of the
// platform or of others. The score table of a run grant names all hosts and what is free on them; why a volume
// could not be filled names servers and addresses.
func ForAccounts(p Payload) Payload {
	switch e := p.(type) {
	case VMRunGranted:
		e.Scores, e.Rest = nil, 0
		return e
	case VolumeFillFailed:
		e.Message = ""
		return e
	}
	return p
}
