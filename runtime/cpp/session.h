// One client's session: the handshake, and a child process that serves it.
#ifndef TVM_EFF_SESSION_H_
#define TVM_EFF_SESSION_H_

#include <optional>
#include <string>

namespace tvm_eff {

// A client that was let in.
struct Client {
  int socket;
  // Seconds the session may last; 0: for ever.
  double timeout;
};

// What may end a wait from outside, as file descriptors to poll.
struct StopSource {
  // -1: not watched.
  int standard_input;
  int signal_pipe;

  // Whether it says stop, given what poll() returned for the two.
  bool Stopped(short input_events, short signal_events) const;
};

// Greets a client that has just connected. Closes the socket and returns nothing when it is not a
// TVM client or asks for another key than `key`.
std::optional<Client> Handshake(int socket, const std::string& key);

// Serves a client until it leaves, its time is over or its code crashes; closes its socket. Files
// that it uploads live in a new folder under `parent_folder`, removed afterwards. Returns false
// when `stop` ended it.
bool ServeSession(const Client& client, const std::string& parent_folder, int listener,
                  const StopSource& stop);

}  // namespace tvm_eff

#endif  // TVM_EFF_SESSION_H_
